//! Asynchronous tasks on `tokio`'s runtime of two workers.

use harness::{Kind, Run, Workload};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, oneshot};

pub(crate) const WORKLOADS: &[Workload] = &[
    Workload {
        name: "tokio_spawn",
        kind: Kind::Time,
        about: "spawn a task that answers through a oneshot channel, 100 at a time",
        run: tokio_spawn,
    },
    Workload {
        name: "tokio_pipeline",
        kind: Kind::Time,
        about: "requests with a String through three tasks and bounded channels, per request",
        run: tokio_pipeline,
    },
];

fn runtime() -> Runtime {
    Builder::new_multi_thread().worker_threads(2).build().expect("threads can be started")
}

fn tokio_spawn(run: &mut Run) {
    let rounds = run.count(4_000);
    let runtime = runtime();
    let sum = run.time(rounds * 100, || {
        runtime.block_on(async {
            tokio::spawn(async move {
                let mut sum = 0;
                for round in 0..rounds {
                    sum += hundred(round).await;
                }
                sum
            })
            .await
            .expect("no task panics")
        })
    });
    run.check(sum);
}

async fn hundred(round: usize) -> u64 {
    let answers: Vec<_> = (0..100)
        .map(|i| {
            let (sender, receiver) = oneshot::channel();
            let body = vec![i as u8; 32 + (round + i) % 400];
            tokio::spawn(async move { sender.send(body.iter().map(|&b| u64::from(b)).sum()) });
            receiver
        })
        .collect();
    let mut sum: u64 = 0;
    for answer in answers {
        sum += answer.await.unwrap_or(0);
    }
    sum
}

fn tokio_pipeline(run: &mut Run) {
    let requests = run.count(400_000);
    let runtime = runtime();
    let length = run.time(requests, || {
        runtime.block_on(async {
            let (parse, mut to_parse) = mpsc::channel::<String>(128);
            let (reply, mut to_reply) = mpsc::channel::<Vec<Box<str>>>(128);
            tokio::spawn(async move {
                for i in 0..requests {
                    let request = format!("GET /items/{i}?page={} HTTP/1.1", i % 17);
                    parse.send(request).await.expect("the parser runs");
                }
            });
            tokio::spawn(async move {
                while let Some(request) = to_parse.recv().await {
                    let parts = request.split([' ', '/', '?', '=']).map(Box::from).collect();
                    reply.send(parts).await.expect("the replier runs");
                }
            });
            let replier = tokio::spawn(async move {
                let mut length = 0;
                while let Some(parts) = to_reply.recv().await {
                    length += parts.iter().map(|part| part.len() as u64).sum::<u64>();
                }
                length
            });
            replier.await.expect("no task panics")
        })
    });
    run.check(length);
}
