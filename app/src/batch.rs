//! Many items, a few at a time, results in the order of the items.
//!
//! ```text
//! items -> [job 1]-\                          no job starts an item more than `look_ahead` past the last one emitted,
//!          [job 2]--+-> reorder -> on_event   so a slow first item cannot make the buffer grow without bound
//!          [job n]-/
//! ```
//!
//! A panic in one item's work becomes that item's failure. A stop request lets items that are done come out.

use std::any::Any;
use std::cell::Cell;
use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::panic::{self, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

/// How often [`Event::Tick`] comes while nothing else happens.
const TICK: Duration = Duration::from_millis(100);

/// What became of an item.
#[derive(Debug, PartialEq, Eq)]
pub enum Outcome<R> {
    /// Its result.
    Done(R),
    /// Why there is none.
    Failed(String),
    /// The run was stopped before it was done.
    Abandoned,
}

/// What happens during a run.
#[derive(Debug, PartialEq, Eq)]
pub enum Event<R> {
    /// Work on an item begins. Comes when it happens, not in order.
    Started(usize),
    /// An item is finished. Comes in the order of the items.
    Finished(usize, Outcome<R>),
    /// Time passes.
    Tick,
}

/// How to run.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    /// Items worked on at the same time.
    pub jobs: usize,
    /// Start nothing more after the first failure.
    pub fail_fast: bool,
    /// How far past the last item emitted another may start; at least one more than `jobs` keeps all jobs busy.
    pub look_ahead: usize,
}

/// What the jobs share.
struct Shared {
    /// Next item to start.
    next: usize,
    /// Items emitted so far.
    emitted: usize,
    /// Nothing more may start.
    closed: bool,
}

/// Works on `items` and reports to `on_event`, on the calling thread, until all are finished, `stop` is set, or
/// `on_event` breaks (which sets `stop`). `work` should look at `stop` too and then return [`Outcome::Abandoned`].
pub fn run<T: Sync, R: Send>(
    items: &[T],
    plan: Plan,
    stop: &AtomicBool,
    work: impl Fn(&T) -> Outcome<R> + Sync,
    mut on_event: impl FnMut(Event<R>) -> ControlFlow<()>,
) {
    let shared = Mutex::new(Shared { next: 0, emitted: 0, closed: false });
    let may_start = Condvar::new();
    let (sender, receiver) = mpsc::channel();

    let start_next = || -> Option<usize> {
        let mut state = lock(&shared);
        loop {
            if state.next == items.len() || state.closed || stop.load(Ordering::Relaxed) {
                return None;
            }
            if state.next < state.emitted + plan.look_ahead.max(1) {
                state.next += 1;
                return Some(state.next - 1);
            }
            // The timeout is for `stop`, which a signal handler sets without waking anyone.
            state = may_start.wait_timeout(state, TICK).unwrap_or_else(PoisonError::into_inner).0;
        }
    };
    let job = |sender: mpsc::Sender<Event<R>>| {
        while let Some(index) = start_next() {
            let _ = sender.send(Event::Started(index));
            let outcome = contained(|| work(&items[index]));
            if plan.fail_fast && matches!(outcome, Outcome::Failed(_)) {
                lock(&shared).closed = true;
            }
            let _ = sender.send(Event::Finished(index, outcome));
        }
    };

    thread::scope(|scope| {
        for _ in 0..plan.jobs.clamp(1, items.len().max(1)) {
            let sender = sender.clone();
            scope.spawn(|| job(sender));
        }
        drop(sender);

        let mut waiting = BTreeMap::new();
        loop {
            let event = match receiver.recv_timeout(TICK) {
                Ok(event) => event,
                Err(RecvTimeoutError::Timeout) => Event::Tick,
                Err(RecvTimeoutError::Disconnected) => break,
            };
            let flow = match event {
                Event::Finished(index, outcome) => {
                    waiting.insert(index, outcome);
                    let mut flow = ControlFlow::Continue(());
                    let mut emitted = lock(&shared).emitted;
                    while let (true, Some(outcome)) = (flow.is_continue(), waiting.remove(&emitted)) {
                        flow = on_event(Event::Finished(emitted, outcome));
                        emitted += 1;
                    }
                    lock(&shared).emitted = emitted;
                    may_start.notify_all();
                    flow
                }
                event => on_event(event),
            };
            if flow.is_break() {
                stop.store(true, Ordering::Relaxed);
                may_start.notify_all();
                // Nobody listens any more; the jobs notice `stop` and end.
                break;
            }
        }
    });
}

thread_local! {
    static CONTAINED: Cell<bool> = const { Cell::new(false) };
}

/// Keeps panics that become an item's failure from also being printed where they happen.
pub fn silence_contained_panics() {
    let print = panic::take_hook();
    panic::set_hook(Box::new(move |info| {
        if !CONTAINED.get() {
            print(info);
        }
    }));
}

/// Does one item's work; a panic becomes its failure.
pub fn contained<R>(work: impl FnOnce() -> Outcome<R>) -> Outcome<R> {
    CONTAINED.set(true);
    // Nothing that the work could have left half-changed is used afterwards: its state is dropped with it.
    let outcome = panic::catch_unwind(AssertUnwindSafe(work));
    CONTAINED.set(false);
    outcome.unwrap_or_else(|panic| {
        Outcome::Failed(format!(
            "internal error ({}); the other files are not affected, please report it with this file",
            panic_message(&*panic)
        ))
    })
}

fn panic_message(panic: &(dyn Any + Send)) -> &str {
    panic
        .downcast_ref::<&str>()
        .copied()
        .or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("panic without a message")
}

fn lock(shared: &Mutex<Shared>) -> MutexGuard<'_, Shared> {
    shared.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use super::*;

    fn plan(jobs: usize) -> Plan {
        Plan { jobs, fail_fast: false, look_ahead: 8 }
    }

    /// Outcomes in the order in which they come.
    fn finished<R: Send>(
        items: &[u64],
        plan: Plan,
        work: impl Fn(&u64) -> Outcome<R> + Sync,
    ) -> Vec<(usize, Outcome<R>)> {
        let mut all = Vec::new();
        run(items, plan, &AtomicBool::new(false), work, |event| {
            if let Event::Finished(index, outcome) = event {
                all.push((index, outcome));
            }
            ControlFlow::Continue(())
        });
        all
    }

    #[test]
    fn order_is_the_input_order_for_any_number_of_jobs() {
        let items: Vec<u64> = (0..40).map(|i| (i * 7) % 5).collect();
        for jobs in [1, 4, 64] {
            let all = finished(&items, plan(jobs), |&ms| {
                thread::sleep(Duration::from_millis(ms));
                Outcome::Done(ms)
            });
            let expected: Vec<_> = items.iter().map(|&ms| Outcome::Done(ms)).enumerate().collect();
            assert_eq!(all, expected, "{jobs} jobs");
        }
        assert!(finished(&[], plan(4), |_| Outcome::Done(())).is_empty());
    }

    #[test]
    fn a_panic_is_one_items_failure() {
        silence_contained_panics();
        let all = finished(&[1, 2, 3], plan(2), |&n| {
            assert!(n != 2, "two is too much");
            Outcome::Done(n)
        });
        assert_eq!(all[0], (0, Outcome::Done(1)));
        assert!(matches!(&all[1].1, Outcome::Failed(cause) if cause.contains("two is too much")));
        assert_eq!(all[2], (2, Outcome::Done(3)));
    }

    #[test]
    fn fail_fast_starts_nothing_more() {
        let plan = Plan { fail_fast: true, ..plan(1) };
        let all =
            finished(&[1, 2, 3, 4], plan, |&n| if n == 2 { Outcome::Failed("no".into()) } else { Outcome::Done(n) });
        assert_eq!(all, [(0, Outcome::Done(1)), (1, Outcome::Failed("no".into()))]);
    }

    #[test]
    fn a_slow_first_item_bounds_the_buffer() {
        let started = AtomicUsize::new(0);
        let items: Vec<u64> = (0..100).collect();
        let plan = Plan { look_ahead: 10, ..plan(4) };
        let all = finished(&items, plan, |&n| {
            started.fetch_add(1, Ordering::SeqCst);
            if n == 0 {
                thread::sleep(Duration::from_millis(150));
                let count = started.load(Ordering::SeqCst);
                return Outcome::Done(count);
            }
            Outcome::Done(0)
        });
        assert_eq!(all.len(), 100);
        assert!(matches!(all[0].1, Outcome::Done(count) if count <= 10), "{:?}", all[0]);
    }

    #[test]
    fn stop_lets_finished_items_out() {
        let stop = AtomicBool::new(false);
        let items: Vec<u64> = (0..50).collect();
        let mut done = Vec::new();
        let work = |&n: &u64| {
            if n == 3 {
                stop.store(true, Ordering::Relaxed);
                return Outcome::Abandoned;
            }
            Outcome::Done(n)
        };
        run(&items, plan(1), &stop, work, |event| {
            if let Event::Finished(_, Outcome::Done(n)) = event {
                done.push(n);
            }
            ControlFlow::Continue(())
        });
        assert_eq!(done, [0, 1, 2]);
    }

    #[test]
    fn a_break_stops_the_run() {
        let stop = AtomicBool::new(false);
        let items: Vec<u64> = (0..1000).collect();
        let mut seen = 0;
        run(
            &items,
            plan(2),
            &stop,
            |&n| Outcome::Done(n),
            |event| {
                seen += usize::from(matches!(event, Event::Finished(..)));
                if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
            },
        );
        assert_eq!(seen, 2);
        assert!(stop.load(Ordering::Relaxed));
    }
}
