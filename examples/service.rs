//! A service whose report says which kind of request holds memory.
//!
//! ```console
//! $ cargo run --release --example service --features tracing
//! ```
//!
//! Clients send requests of three kinds to a tokio service. Each is handled in a
//! `tracing` span with its kind; handlers wait, hop between threads, and leave some
//! of what they allocated in shared state: uploads in a store, searches in a cache
//! of few entries, reports nowhere. At the end the profile is asked for the bytes
//! in use by kind.

use std::collections::{HashMap, VecDeque};
use std::process::ExitCode;
use std::sync::{Arc, Mutex};

use spanalloc::{SpanAlloc, SpanLayer};
use tokio::sync::mpsc;
use tracing::Instrument;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

#[global_allocator]
static GLOBAL: SpanAlloc = SpanAlloc::new().sample_every(64 * 1024);

const REQUESTS: usize = 6000;
const CLIENTS: usize = 8;
/// Results that the cache keeps.
const CACHED_MAX: usize = 100;

#[derive(Clone, Copy)]
enum Request {
    Upload { name: usize },
    Search { term: usize },
    Report,
}

impl Request {
    fn kind(self) -> &'static str {
        match self {
            Self::Upload { .. } => "upload",
            Self::Search { .. } => "search",
            Self::Report => "report",
        }
    }
}

/// What requests leave behind.
#[derive(Default)]
struct State {
    store: Mutex<HashMap<usize, Vec<u8>>>,
    cache: Mutex<VecDeque<Vec<u64>>>,
}

async fn handle(state: Arc<State>, request: Request) {
    match request {
        Request::Upload { name } => {
            let body = receive(16 << 10).await;
            state.store.lock().unwrap().insert(name, body);
        }
        Request::Search { term } => {
            let hits: Vec<u64> = (0..2000).map(|hit| (term + hit) as u64).collect();
            tokio::task::yield_now().await;
            let mut cache = state.cache.lock().unwrap();
            cache.push_back(hits);
            if cache.len() > CACHED_MAX {
                cache.pop_front();
            }
        }
        Request::Report => {
            let lines: Vec<String> = (0..500).map(|line| format!("line {line}")).collect();
            tokio::task::yield_now().await;
            drop(lines.join("\n"));
        }
    }
}

/// A body that comes in pieces.
async fn receive(bytes: usize) -> Vec<u8> {
    let mut body = Vec::new();
    while body.len() < bytes {
        body.extend_from_slice(&[7; 1024]);
        tokio::task::yield_now().await;
    }
    body
}

#[tokio::main]
async fn main() -> ExitCode {
    tracing_subscriber::registry().with(SpanLayer::new().by_field("kind")).init();
    let state = Arc::new(State::default());
    let (sender, mut receiver) = mpsc::channel(CLIENTS);
    for client in 0..CLIENTS {
        let sender = sender.clone();
        tokio::spawn(async move {
            for number in (client..REQUESTS).step_by(CLIENTS) {
                let request = match number % 3 {
                    0 => Request::Upload { name: number },
                    1 => Request::Search { term: number },
                    _ => Request::Report,
                };
                sender.send(request).await.unwrap();
            }
        });
    }
    drop(sender);
    let mut handlers = tokio::task::JoinSet::new();
    while let Some(request) = receiver.recv().await {
        let span = tracing::info_span!("request", kind = request.kind());
        handlers.spawn(handle(state.clone(), request).instrument(span));
    }
    handlers.join_all().await;

    println!("{:>10} {:>12} {:>7}  allocated", "request", "in use", "error");
    for span in &spanalloc::profile::capture().spans {
        println!(
            "{:>10} {:>12} {:>6.1}%  {}",
            if span.name.is_empty() { "(none)" } else { &span.name },
            span.in_use.bytes,
            span.in_use.bytes_error_bar() * 100.0,
            span.allocated.bytes,
        );
    }
    match spanalloc::dump("flamegraphs/service") {
        Ok(paths) => paths.iter().for_each(|path| println!("wrote {}", path.display())),
        Err(error) => {
            eprintln!("service: {error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
