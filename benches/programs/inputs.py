"""The inputs of the programs, the same on every machine and in every run.

Invariant: a generator draws from a `random.Random` with a fixed seed and from
nothing else; no clock, no names of this machine.
"""

import random

WORDS = [
    "".join(parts)
    for parts in (
        (a, b, c)
        for a in ("al", "be", "co", "du", "er", "fo", "gra", "hi", "in", "ju", "ka", "lo")
        for b in ("ra", "ne", "li", "to", "mu", "sy", "ve", "qui")
        for c in ("n", "st", "ble", "rm", "ck", "x", "", "ling")
    )
]


def sentence(rng, words):
    """A line of text."""
    return " ".join(rng.choices(WORDS, k=words))


def git_stream(path, files, commits):
    """A history for `git fast-import`: `files` text files, then `commits` commits
    that each change a few lines in several of them."""
    rng = random.Random(1)
    tree = {
        f"src/{WORDS[i % 97]}/{WORDS[i % 61]}/file{i}.txt": [
            sentence(rng, rng.randint(3, 12)) for _ in range(rng.randint(20, 160))
        ]
        for i in range(files)
    }
    names = list(tree)
    with open(path, "w", encoding="ascii") as out:
        for commit in range(commits + 1):
            out.write("commit refs/heads/main\n")
            out.write(f"committer A U Thor <author@example.org> {1_700_000_000 + commit} +0000\n")
            message = f"{commit}: {sentence(rng, 9)}\n"
            out.write(f"data {len(message)}\n{message}\n")
            changed = names if commit == 0 else rng.sample(names, rng.randint(2, 8))
            for name in changed:
                lines = tree[name]
                if commit:
                    for _ in range(rng.randint(1, 4)):
                        lines[rng.randrange(len(lines))] = sentence(rng, rng.randint(3, 12))
                    if rng.random() < 0.3:
                        lines.insert(rng.randrange(len(lines)), sentence(rng, 8))
                text = "\n".join(lines) + "\n"
                out.write(f"M 100644 inline {name}\ndata {len(text)}\n{text}\n")
        out.write("done\n")


def sql_script(path, rows):
    """A session with an in-memory database: single inserts, indexes, joins, window
    functions, JSON, full-text search, a trigger, updates, deletes and vacuum."""
    rng = random.Random(2)
    with open(path, "w", encoding="ascii") as out:
        out.write(
            "CREATE TABLE person(id INTEGER PRIMARY KEY, name TEXT, town TEXT, age INT, doc TEXT);\n"
            "CREATE TABLE sale(id INTEGER PRIMARY KEY, person INT, amount REAL, what TEXT);\n"
            "CREATE TABLE audit(id INTEGER PRIMARY KEY, line TEXT);\n"
            "CREATE TRIGGER t AFTER UPDATE ON person BEGIN\n"
            "  INSERT INTO audit(line) VALUES (old.name || ' -> ' || new.name);\nEND;\nBEGIN;\n"
        )
        for person in range(rows):
            doc = f'{{"tags":["{sentence(rng, 1)}","{sentence(rng, 1)}"],"n":{rng.randint(0, 999)}}}'
            out.write(
                f"INSERT INTO person VALUES({person},'{sentence(rng, 2)}',"
                f"'{rng.choice(WORDS)}',{rng.randint(1, 99)},'{doc}');\n"
            )
        for sale in range(rows * 2):
            out.write(
                f"INSERT INTO sale VALUES({sale},{rng.randrange(rows)},"
                f"{rng.randint(1, 99_999) / 100},'{sentence(rng, 4)}');\n"
            )
        out.write(
            "COMMIT;\n"
            "CREATE INDEX sale_person ON sale(person);\nCREATE INDEX person_town ON person(town, age);\n"
            "SELECT town, count(*), round(sum(amount), 2) FROM person JOIN sale ON sale.person ="
            " person.id GROUP BY town ORDER BY 3 DESC, 1 LIMIT 50;\n"
            "SELECT id, round(sum(amount) OVER (PARTITION BY person ORDER BY id), 2) AS run,"
            " rank() OVER (PARTITION BY what ORDER BY amount) FROM sale ORDER BY run DESC, id LIMIT 50;\n"
            "SELECT town, length(group_concat(name, ', ')) FROM person GROUP BY town ORDER BY 1;\n"
            "SELECT json_extract(doc, '$.tags[0]') AS tag, sum(json_extract(doc, '$.n')) FROM person"
            " GROUP BY tag ORDER BY 2 DESC, 1 LIMIT 50;\n"
            "CREATE VIRTUAL TABLE words USING fts5(what);\n"
            "INSERT INTO words SELECT what FROM sale;\n"
            "SELECT count(*) FROM words WHERE words MATCH 'alran OR bene*';\n"
            "UPDATE person SET name = upper(name) WHERE age % 3 = 0;\n"
            "DELETE FROM sale WHERE id % 4 = 1;\n"
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < "
            f"{rows * 4}) SELECT sum(length(hex(i * i))) FROM n;\n"
            "SELECT count(DISTINCT what || town) FROM sale JOIN person ON person.id = sale.person;\n"
            "SELECT count(*), max(line) FROM audit;\nVACUUM;\n"
        )


def cpp_file(path, types):
    """C++ that instantiates much of the standard library for `types` types."""
    with open(path, "w", encoding="ascii") as out:
        headers = "algorithm functional map memory optional random regex set sstream string tuple"
        for header in (headers + " unordered_map variant vector iostream numeric").split():
            out.write(f"#include <{header}>\n")
        for i in range(types):
            out.write(f"""
struct T{i} {{
    int key; std::string name; std::vector<std::tuple<int, double, std::string>> rows;
    bool operator<(const T{i}& other) const {{ return std::tie(key, name) < std::tie(other.key, other.name); }}
}};
using V{i} = std::variant<int, std::string, std::shared_ptr<T{i}>, std::map<std::string, T{i}>>;
std::size_t work{i}(const std::vector<T{i}>& given) {{
    std::map<T{i}, std::unordered_map<std::string, std::vector<V{i}>>> all;
    std::set<std::pair<int, std::string>> seen;
    for (const auto& t : given) {{
        auto& held = all[t][t.name];
        held.emplace_back(t.key);
        held.emplace_back(std::make_shared<T{i}>(t));
        seen.emplace(t.key + {i}, t.name);
    }}
    std::vector<T{i}> sorted(given);
    std::stable_sort(sorted.begin(), sorted.end());
    std::function<std::size_t(const V{i}&)> size = [](const V{i}& v) {{
        return std::visit([](const auto& x) -> std::size_t {{ return sizeof(x) + {i}; }}, v);
    }};
    std::ostringstream text;
    std::size_t total = seen.size();
    for (const auto& [t, named] : all)
        for (const auto& [name, values] : named) {{
            text << t.key << name << values.size();
            total += std::accumulate(values.begin(), values.end(), std::size_t(0),
                [&](std::size_t sum, const V{i}& v) {{ return sum + size(v); }});
        }}
    return total + text.str().size() + sorted.size();
}}
""")


def c_file(path, functions):
    """C with many functions of loops, switches and tables, that call each other."""
    rng = random.Random(3)
    with open(path, "w", encoding="ascii") as out:
        out.write("#include <stdint.h>\n#include <stddef.h>\n")
        out.write("struct node { struct node *next; uint64_t key; double weight; char name[24]; };\n")
        for i in range(functions):
            cases = "\n".join(
                f"        case {c}: sum = (sum << {rng.randint(1, 13)}) ^ (at->key * {rng.randrange(1, 1 << 30)}u)"
                f" + table{i}[(sum + {c}) % {len(WORDS) % 29 + 3}]; break;"
                for c in range(rng.randint(4, 14))
            )
            table = ", ".join(str(rng.randrange(1 << 30)) for _ in range(len(WORDS) % 29 + 3))
            callee = f"f{rng.randrange(i)}(at->next, depth - 1)" if i else "0"
            out.write(f"""
static const uint64_t table{i}[] = {{ {table} }};
uint64_t f{i}(struct node *at, unsigned depth) {{
    uint64_t sum = {i};
    double weight = 0.0;
    for (; at && depth; at = at->next, --depth) {{
        switch (at->key % {rng.randint(5, 17)}) {{
{cases}
        default:
            for (size_t k = 0; k < sizeof at->name; ++k)
                weight += at->weight * at->name[k] + (double)table{i}[k % 3];
            sum += {callee};
        }}
        if (weight > {rng.randint(100, 10_000)}.0) sum ^= (uint64_t)weight;
    }}
    return sum;
}}
""")


def cargo_project(root, crates, modules):
    """A workspace of library crates, each of `modules` modules of generic code, and
    a binary that uses all. No dependencies."""
    members = [f"part{i}" for i in range(crates)]
    root.mkdir(parents=True)
    listed = ", ".join(f'"{name}"' for name in [*members, "app"])
    (root / "Cargo.toml").write_text(f"[workspace]\nmembers = [{listed}]\n")
    manifest = '[package]\nname = "{}"\nversion = "0.1.0"\nedition = "2021"\n[dependencies]\n'
    for member in members:
        (root / member / "src").mkdir(parents=True)
        (root / member / "Cargo.toml").write_text(manifest.format(member))
        text = []
        for m in range(modules):
            text.append(f"""
pub mod m{m} {{
    use std::collections::{{BTreeMap, HashMap}};
    #[derive(Clone, Debug, PartialEq, PartialOrd)]
    pub enum Shape<T> {{ Dot, Line(T, T), Named {{ name: String, at: Vec<T> }} }}
    #[derive(Default, Debug, Clone)]
    pub struct Store<T> {{ by_name: BTreeMap<String, Vec<Shape<T>>>, counts: HashMap<u64, usize> }}
    impl<T: Clone + Into<f64> + std::fmt::Debug + PartialOrd> Store<T> {{
        pub fn add(&mut self, name: &str, shape: Shape<T>) -> usize {{
            let held = self.by_name.entry(name.to_owned()).or_insert_with(Vec::new);
            held.push(shape);
            *self.counts.entry(held.len() as u64 + {m}).or_insert(0) += 1;
            held.len()
        }}
        pub fn total(&self) -> f64 {{
            self.by_name.values().flatten().map(|shape| match shape {{
                Shape::Dot => {m}.0,
                Shape::Line(a, b) => a.clone().into() + b.clone().into(),
                Shape::Named {{ at, name }} => at.iter().cloned().map(Into::into).sum::<f64>() + name.len() as f64,
            }}).sum()
        }}
        pub fn text(&self) -> String {{
            let mut lines: Vec<String> = self.by_name.iter()
                .flat_map(|(name, shapes)| shapes.iter().map(move |s| format!("{{name}}: {{s:?}}")))
                .collect();
            lines.sort();
            lines.dedup();
            lines.join("\\n")
        }}
    }}
    pub fn run(n: u32) -> f64 {{
        let mut small: Store<f32> = Store {{ by_name: BTreeMap::new(), counts: HashMap::new() }};
        let mut wide: Store<u32> = Store {{ by_name: BTreeMap::new(), counts: HashMap::new() }};
        for i in 0..n {{
            small.add(&format!("s{{}}", i % 7), Shape::Line(i as f32, {m}.5));
            wide.add("w", Shape::Named {{ name: i.to_string(), at: vec![i, {m}] }});
        }}
        small.total() + wide.total() + (small.text().len() + wide.text().len()) as f64
    }}
}}
""")
        (root / member / "src/lib.rs").write_text("".join(text))
    (root / "app/src").mkdir(parents=True)
    depends = "".join(f'{name} = {{ path = "../{name}" }}\n' for name in members)
    (root / "app/Cargo.toml").write_text(manifest.format("app") + depends)
    calls = " + ".join(f"{name}::m{m}::run(20)" for name in members for m in range(modules))
    (root / "app/src/main.rs").write_text(f'fn main() {{ println!("{{}}", {calls}); }}\n')
