//! An interpreter of expressions: `rhai` runs a script over strings, arrays and
//! maps of its own.

use harness::{Kind, Run, Workload};
use rhai::{Engine, INT, Scope};

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "rhai_script",
        kind: Kind::Time,
        about: "a script that groups and joins strings in arrays and maps, per pass",
        run: rhai_script,
    },
    Workload {
        name: "rhai_compile",
        kind: Kind::Time,
        about: "compile the script to its syntax tree and drop it",
        run: rhai_compile,
    },
];

const SCRIPT: &str = r#"
    fn label(n) { "item-" + n + "/" + (n % 13) }

    let groups = #{};
    for n in 0..400 {
        let name = label(n);
        let key = name.split("/")[1];
        if key in groups { groups[key].push(name); } else { groups[key] = [name]; }
    }
    let total = 0;
    for key in groups.keys() {
        let names = groups[key].filter(|name| name.len() > 8).map(|name| name.to_upper());
        names.reverse();
        for name in names { total += name.len(); }
    }
    total
"#;

fn rhai_script(run: &mut Run) {
    let passes = run.count(200);
    let engine = Engine::new();
    let script = engine.compile(SCRIPT).expect("the script is valid");
    let total = run.time(passes, || {
        let mut total = 0;
        for _ in 0..passes {
            let value = engine.eval_ast_with_scope::<INT>(&mut Scope::new(), &script);
            total += value.expect("the script returns a number");
        }
        total
    });
    run.check(total as u64);
}

fn rhai_compile(run: &mut Run) {
    let passes = run.count(10_000);
    let engine = Engine::new();
    let functions = run.time(passes, || {
        let compile = |_| engine.compile(SCRIPT).expect("the script is valid");
        (0..passes).map(compile).map(|script| script.iter_functions().count() as u64).sum()
    });
    run.check(functions);
}
