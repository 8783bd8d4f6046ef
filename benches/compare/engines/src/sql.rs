//! A SQL database: `gluesql` with its storage in memory.

use gluesql::gluesql_memory_storage::MemoryStorage;
use gluesql::prelude::{Glue, Payload};
use harness::{Kind, Rng, Run, Workload};
use std::fmt::Write;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "sql_insert",
        kind: Kind::Time,
        about: "INSERT rows of an id, a name and a number, 50 to a statement, per row",
        run: sql_insert,
    },
    Workload {
        name: "sql_select",
        kind: Kind::Time,
        about: "SELECT with WHERE, GROUP BY and ORDER BY over 2,000 rows, per query",
        run: sql_select,
    },
];

const ROWS_PER_STATEMENT: usize = 50;

fn table(rows: usize) -> Glue<MemoryStorage> {
    let mut glue = Glue::new(MemoryStorage::default());
    execute(&mut glue, "CREATE TABLE items (id INTEGER PRIMARY KEY, name TEXT, price INTEGER)");
    let mut rng = Rng::new(34);
    for first in (0..rows).step_by(ROWS_PER_STATEMENT) {
        let mut statement = String::from("INSERT INTO items VALUES ");
        for id in first..(first + ROWS_PER_STATEMENT).min(rows) {
            let comma = if id == first { "" } else { ", " };
            let (name, price) = (rng.below(97), rng.below(10_000));
            let _ = write!(statement, "{comma}({id}, 'article {name}', {price})");
        }
        execute(&mut glue, &statement);
    }
    glue
}

/// Executes `sql` and returns the number of rows it gave.
fn execute(glue: &mut Glue<MemoryStorage>, sql: &str) -> u64 {
    let payloads = glue.execute(sql).expect("the statement is valid");
    let rows = payloads.iter().map(|payload| match payload {
        Payload::Select { rows, .. } => rows.len() as u64,
        _ => 0,
    });
    rows.sum()
}

fn sql_insert(run: &mut Run) {
    let rows = run.count(120_000);
    let mut glue = run.time(rows, || table(rows));
    run.check(execute(&mut glue, "SELECT id FROM items WHERE price < 5000"));
}

fn sql_select(run: &mut Run) {
    let queries = run.count(400);
    let mut glue = table(2_000);
    let found = run.time(queries, || {
        let mut found = 0;
        for query in 0..queries {
            let low = query * 20;
            let sql = format!(
                "SELECT name, COUNT(*) AS n, SUM(price) AS total FROM items \
                 WHERE price > {low} GROUP BY name ORDER BY total DESC LIMIT 20"
            );
            found += execute(&mut glue, &sql);
        }
        found
    });
    run.check(found);
}
