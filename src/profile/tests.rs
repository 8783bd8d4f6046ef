//! When sampling is suppressed, and what is lost then.

use super::*;

#[test]
fn sampling_is_suppressed_inside_and_outside_again() {
    assert!(!suppressed());
    quietly(|| {
        assert!(suppressed());
        quietly(|| assert!(suppressed()));
        assert!(suppressed());
    });
    let busy = Busy::enter().unwrap();
    assert!(suppressed());
    assert!(Busy::enter().is_none());
    assert!(suppressed(), "a refused entry ends nothing");
    drop(busy);
    assert!(!suppressed());
}

#[test]
fn a_sample_inside_the_profiler_is_counted_as_lost() {
    let busy = Busy::enter().unwrap();
    let before = PROFILER.lost.reentrant.get();
    on_alloc(8, 8, 8, 1);
    assert_eq!(PROFILER.lost.reentrant.get(), before + 1);
    drop(busy);
}

#[test]
fn a_free_inside_the_profiler_is_counted_as_lost() {
    let sample = || {
        Taken(Sample {
            weight: Weight::new(8, 1),
            requested_bytes: 8,
            block_bytes: 8,
            site: sites::SiteId { at: 0, generation: 0 },
            origin: Origin { thread: Label::NONE, span: Label::NONE },
            born_ns: 0,
            shrunk_bytes: 0,
        })
    };
    let busy = Busy::enter().unwrap();
    let frees: [&dyn Fn(); 4] =
        [&|| on_free(8), &|| assert!(take(8).is_none()), &|| put_back(8, sample()), &|| {
            taken_is_free(sample())
        }];
    for (at, free) in frees.iter().enumerate() {
        let before = PROFILER.lost.frees.get();
        free();
        assert_eq!(PROFILER.lost.frees.get(), before + 1, "{at}");
    }
    drop(busy);
}

#[test]
fn an_interval_of_zero_is_refused() {
    let error = start(0).unwrap_err();
    assert!(error.to_string().contains("at least 1 byte"));
}
