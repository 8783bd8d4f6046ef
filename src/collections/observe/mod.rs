//! Watching a program's memory from inside it: what grows, what is too large, who still listens,
//! and how long things take.
//!
//! | type | question |
//! | --- | --- |
//! | [`TrendDetector`] | do these snapshots rise for good, or do they come down again? |
//! | [`SloRule`] | too much, or too fast, for too long? |
//! | [`TagBudget`] | may this tag, this span, this trace carry so many bytes? |
//! | [`Listeners`] | who is still registered, and what does that keep alive? |
//! | [`Timer`] | how long did it take, without the clock's own share? |

mod budget;
mod listeners;
mod mann_kendall;
mod slo;
mod theil_sen;
mod timer;
mod trend;

pub use budget::{
    BudgetExceeded, BudgetLimits, BudgetStats, Limit, SpanBudget, TagBudget, TraceBudget,
};
pub use listeners::{Listener, ListenerStats, Listeners, Token};
pub use slo::{SloBreach, SloRule, SloRuleError, Threshold};
pub use timer::Timer;
pub use trend::{Slope, Trend, TrendDetector};
