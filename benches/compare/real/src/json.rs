//! JSON: documents become values of `serde_json` and are dropped.

use harness::{Kind, Rng, Run, Workload};
use serde::Deserialize;
use serde_json::Value;
use std::fmt::Write;
use std::hint::black_box;

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "json_values",
        kind: Kind::Time,
        about: "parse 4,000 records into serde_json::Value, edit and drop, per record",
        run: json_values,
    },
    Workload {
        name: "json_typed",
        kind: Kind::Time,
        about: "parse 4,000 records into structs of Strings and Vecs and print them, per record",
        run: json_typed,
    },
];

const RECORDS: usize = 4000;

#[derive(Deserialize, serde::Serialize)]
struct Record {
    id: u64,
    name: String,
    email: Option<String>,
    tags: Vec<String>,
    position: Position,
    scores: Vec<f64>,
    friends: Vec<Friend>,
}

#[derive(Deserialize, serde::Serialize)]
struct Position {
    latitude: f64,
    longitude: f64,
}

#[derive(Deserialize, serde::Serialize)]
struct Friend {
    id: u64,
    name: String,
}

fn document() -> String {
    let mut rng = Rng::new(20);
    let mut text = String::from("[");
    for id in 0..RECORDS {
        let comma = if id == 0 { "" } else { "," };
        let _ = write!(text, "{comma}{{\"id\":{id},\"name\":\"{}\",", words(&mut rng, 2));
        let email =
            if rng.below(4) == 0 { "null".into() } else { format!("\"u{id}@example.org\"") };
        let _ = write!(text, "\"email\":{email},\"tags\":[");
        separated(&mut text, rng.below(6), |text| {
            let _ = write!(text, "\"{}\"", words(&mut rng, 1));
        });
        let (latitude, longitude) = (rng.below(180_000) as f64, rng.below(360_000) as f64);
        let _ = write!(
            text,
            "],\"position\":{{\"latitude\":{},\"longitude\":{}}},\"scores\":[",
            latitude / 1000.0,
            longitude / 1000.0
        );
        separated(&mut text, rng.below(12), |text| {
            let _ = write!(text, "{}", rng.below(100_000) as f64 / 64.0);
        });
        text.push_str("],\"friends\":[");
        separated(&mut text, rng.below(5), |text| {
            let friend = rng.below(RECORDS);
            let _ = write!(text, "{{\"id\":{friend},\"name\":\"{}\"}}", words(&mut rng, 2));
        });
        text.push_str("]}");
    }
    text.push(']');
    text
}

fn separated(text: &mut String, count: usize, mut item: impl FnMut(&mut String)) {
    for i in 0..count {
        if i > 0 {
            text.push(',');
        }
        item(text);
    }
}

fn words(rng: &mut Rng, count: usize) -> String {
    const SYLLABLES: [&str; 12] =
        ["ka", "ro", "min", "tel", "a", "os", "ber", "lin", "ud", "vé", "sha", "on"];
    let word = |rng: &mut Rng| -> String {
        (0..rng.between(1, 5)).map(|_| SYLLABLES[rng.below(SYLLABLES.len())]).collect()
    };
    (0..count).map(|_| word(rng)).collect::<Vec<_>>().join(" ")
}

fn json_values(run: &mut Run) {
    let text = document();
    let documents = run.count(40);
    let fields = run.time(documents * RECORDS, || {
        let mut fields = 0;
        for pass in 0..documents {
            let mut value: Value = serde_json::from_str(&text).expect("the document is JSON");
            for record in value.as_array_mut().expect("the document is an array") {
                record["pass"] = Value::from(pass.to_string());
                fields += record.as_object().map_or(0, |object| object.len() as u64);
            }
            black_box(&value);
        }
        fields
    });
    run.check(fields);
}

fn json_typed(run: &mut Run) {
    let text = document();
    let documents = run.count(50);
    let length = run.time(documents * RECORDS, || {
        let mut length = 0;
        for _ in 0..documents {
            let records: Vec<Record> = serde_json::from_str(&text).expect("the document fits");
            length += serde_json::to_string(&records).expect("records serialize").len() as u64;
        }
        length
    });
    run.check(length);
}
