use std::fmt::Arguments;
use std::io::{self, IsTerminal, Write};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Without a terminal, a line at most this often.
const LINE_EVERY: Duration = Duration::from_secs(5);

/// Writes a line to standard error, if that can be written: whoever reads it may have left, and the work goes on.
pub(crate) fn say(line: Arguments<'_>) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Shows how far long work has come, on standard error: a bar on a terminal, plain lines otherwise.
pub(crate) struct Meter(Mutex<State>);

struct State {
    bar: Option<ProgressBar>,
    stage: &'static str,
    last_line: Instant,
}

impl Meter {
    pub fn new() -> Meter {
        let bar = io::stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{msg:<10} {wide_bar} {human_pos}/{human_len} {eta}");
            ProgressBar::new(0).with_style(style.expect("the template is well formed"))
        });
        Meter(Mutex::new(State { bar, stage: "", last_line: Instant::now() }))
    }

    /// `total` is 0 where it is not known.
    pub fn show(&self, stage: &'static str, done: u64, total: u64) {
        let mut state = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(bar) = &state.bar {
            bar.set_message(stage);
            bar.set_length(total.max(done));
            bar.set_position(done);
        } else if state.stage != stage || state.last_line.elapsed() >= LINE_EVERY {
            match (done, total) {
                (0, _) => say(format_args!("{stage}")),
                (_, 0) => say(format_args!("{stage}: {done}")),
                _ => say(format_args!("{stage}: {done} of {total}")),
            }
            state.last_line = Instant::now();
        }
        state.stage = stage;
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        let state = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(bar) = &state.bar {
            bar.finish_and_clear();
        }
    }
}
