//! Memory by span of `tracing`: the layer that tells the profiler which span a
//! thread is in.
//!
//! A span has a label from its creation on, or counts for the one around it. Entering and leaving
//! set one word of the thread to the label of the innermost span, which the sampler reads when it
//! samples; an allocation that is not sampled pays nothing. A future that is
//! instrumented enters its span at each poll, on whichever thread, so this is right
//! across `.await`.
//!
//! Nothing here emits an event: the dispatcher may be what allocates.

use std::fmt::{Debug, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

use tracing_core::Subscriber;
use tracing_core::field::{Field, Visit};
use tracing_core::span::{Attributes, Id, Record};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;
use tracing_subscriber::registry::{Extensions, LookupSpan, SpanRef};

use crate::profile::{self, Label, quietly};

/// A layer for `tracing_subscriber` that has samples count for the span they were
/// taken in: [`Profile::spans`](crate::profile::Profile::spans) then says how many
/// bytes were allocated in each kind of span and are still in use, wherever they
/// are by now.
///
/// A kind is a span's name, or the value of a field if one was chosen, of which the first 63
/// bytes count; an empty one is no kind. Some 250 kinds are told apart; further ones count
/// together as `(others)`.
///
/// Cost: creating a span looks its kind up, under a lock that all threads share and among as many
/// names as there are kinds, and keeps it with the span; entering and leaving look
/// for the innermost span that has one and set a word of the thread. An allocation that is not
/// sampled pays nothing.
///
/// The word stays if the layer is taken away while the program runs, as by
/// `tracing_subscriber::reload`: what a thread allocates afterwards counts for the span that it
/// entered or left last before.
///
/// # Examples
///
/// ```
/// use tracing_subscriber::layer::SubscriberExt;
/// use tracing_subscriber::util::SubscriberInitExt;
///
/// tracing_subscriber::registry().with(spanalloc::SpanLayer::new().by_field("kind")).init();
/// spanalloc::profile::start(512 * 1024)?;
/// let request = tracing::info_span!("request", kind = "upload");
/// let body = request.in_scope(|| vec![0_u8; 1 << 20]);
/// for span in &spanalloc::profile::capture().spans {
///     println!("{}: {} bytes in use", span.name, span.in_use.bytes);
/// }
/// # drop(body);
/// # Ok::<(), spanalloc::profile::IntervalError>(())
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct SpanLayer {
    field: Option<&'static str>,
}

/// The label of a span, kept with it.
struct Labelled(Label);

impl SpanLayer {
    /// Tells spans apart by their names.
    pub const fn new() -> Self {
        Self { field: None }
    }

    /// Tells spans apart by the value of a field. A span without the field counts
    /// for the one around it. Choose a field of few values: a kind of request
    /// rather than its number.
    ///
    /// A value that is recorded after the span began counts at once on the thread that records it;
    /// on others that are in the span, from when they next enter or leave one.
    pub const fn by_field(self, field: &'static str) -> Self {
        Self { field: Some(field) }
    }

    /// The label that the recorded values give, if they do.
    fn label(&self, record: impl FnOnce(&mut dyn Visit)) -> Option<Label> {
        let mut value = Value { field: self.field?, text: None };
        record(&mut value);
        value.text.map(|text| profile::span_label(&text))
    }
}

/// Finds the value of a field.
struct Value {
    field: &'static str,
    text: Option<String>,
}

impl Visit for Value {
    fn record_str(&mut self, field: &Field, value: &str) {
        if field.name() == self.field {
            self.text = Some(value.to_owned());
        }
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == self.field {
            let mut text = String::new();
            // Writing to a string fails only if the value's own code does.
            self.text = write!(text, "{value:?}").is_ok().then_some(text);
        }
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for SpanLayer {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let label = carefully(|| match self.field {
            None => Some(profile::span_label(attributes.metadata().name())),
            Some(_) => self.label(|value| attributes.record(value)),
        });
        give(label.unwrap_or(Label::NONE), id, &context);
    }

    fn on_record(&self, id: &Id, values: &Record<'_>, context: Context<'_, S>) {
        if let Some(label) = carefully(|| self.label(|value| values.record(value))) {
            give(label, id, &context);
        }
        count_for(|| context.lookup_current());
    }

    // Not the current one: a span that is entered again inside another one is not that.
    fn on_enter(&self, id: &Id, context: Context<'_, S>) {
        count_for(|| context.span(id));
    }

    // Asking which one is left, rather than keeping a stack, is right in whichever order spans end.
    // (Left inside a span that was entered again, another one leaves it to count for the one
    // between.)
    fn on_exit(&self, _: &Id, context: Context<'_, S>) {
        count_for(|| context.lookup_current());
    }
}

fn label_of(extensions: &Extensions<'_>) -> Label {
    extensions.get::<Labelled>().map_or(Label::NONE, |labelled| labelled.0)
}

/// Gives a span its label.
///
/// What a span keeps is poisoned once a layer has panicked with it in hand, and asking for it
/// panics from then on: also later, where the span is entered or left again, and in spans that come
/// to lie in its place. So that is caught, here and in [`count_for`].
fn give<S>(label: Label, id: &Id, context: &Context<'_, S>)
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let put = || context.span(id).map(|span| span.extensions_mut().replace(Labelled(label)));
    quietly(|| drop(catch_unwind(AssertUnwindSafe(put))));
}

/// Has this thread's samples count for a span.
fn count_for<'a, R: LookupSpan<'a> + 'a>(span: impl FnOnce() -> Option<SpanRef<'a, R>>) {
    let label = || {
        // One without a label counts for the one around it, which may get one later than it began.
        let mut labels = span()?.scope().map(|span| label_of(&span.extensions()));
        labels.find(|label| *label != Label::NONE)
    };
    let label = quietly(|| catch_unwind(AssertUnwindSafe(label)).ok().flatten());
    profile::set_span(label.unwrap_or(Label::NONE));
}

/// Runs `work`, which may run code of the program's values, unsampled. A panic of theirs is the
/// program's, but a second one while unwinding would end the process.
fn carefully<T>(work: impl FnOnce() -> Option<T>) -> Option<T> {
    quietly(|| match thread::panicking() {
        false => work(),
        true => catch_unwind(AssertUnwindSafe(work)).ok().flatten(),
    })
}
