//! A compression codec: `flate2` over its Rust backend. Each stream allocates
//! its tables and windows anew, some hundred KiB.

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use harness::{Kind, Rng, Run, Workload};
use std::io::{Read, Write};

pub(crate) const WORKLOADS: &[Workload] = &[Workload {
    name: "gzip",
    kind: Kind::Time,
    about: "compress and decompress messages of 1 to 16 KiB, each its own stream",
    run: gzip,
}];

fn gzip(run: &mut Run) {
    let messages = run.count(1_500);
    let mut rng = Rng::new(22);
    let text: Vec<u8> = (0..64 << 10).map(|_| b"etaoin shrdlu\n"[rng.below(14)]).collect();
    let lengths = run.time(messages, || {
        let mut lengths = 0;
        for _ in 0..messages {
            let start = rng.below(48 << 10);
            let message = &text[start..start + rng.between(1 << 10, 16 << 10)];
            let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
            encoder.write_all(message).expect("a Vec takes everything");
            let packed = encoder.finish().expect("a Vec takes everything");
            let mut unpacked = Vec::new();
            GzDecoder::new(&packed[..]).read_to_end(&mut unpacked).expect("just compressed");
            assert_eq!(unpacked, message);
            lengths += packed.len() as u64;
        }
        lengths
    });
    run.check(lengths);
}
