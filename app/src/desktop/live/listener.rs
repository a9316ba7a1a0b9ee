//! The thread between the worker and the page: neither waits for the other, and no frame is drawn without news.
//!
//! ```text
//! page -- Order --> thread -- Command --> worker (core::live)
//!  ^                  |  ^-- state, events --'
//!  '-- view, locked for moments; a repaint is asked for when something changed that can be seen
//! ```
//!
//! Starting and ending a worker can take as long as a sound system or a disk does; both happen here.

use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use earmark_core::live::{
    CaptureError, CaptureHost, Clock, Command, Device, Event, Live, LiveOptions, RecordOptions, SourceChoice,
};
use eframe::egui;

use super::view::{Phase, View};
use crate::desktop::context::{Loaded, Weight};
use crate::output::timestamp;

/// How often the state is looked at: forty times per second.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// What the page asks for.
enum Order {
    Listen(SourceChoice, Arc<Loaded>),
    Stop,
    Record(RecordOptions),
    StopRecording,
    Quit,
}

/// The devices there are, or why they are not known.
pub type Listing = Result<Vec<Device>, CaptureError>;

/// Listens on behalf of the page.
pub struct Listener {
    orders: Sender<Order>,
    view: Arc<Mutex<View>>,
    thread: Option<JoinHandle<()>>,
    host: Arc<dyn CaptureHost>,
    ctx: egui::Context,
    listing: Option<Receiver<Listing>>,
}

impl Listener {
    /// Ready to listen with `host`.
    ///
    /// # Errors
    /// If the system starts no more threads.
    pub fn new(
        ctx: &egui::Context,
        view: View,
        host: Arc<dyn CaptureHost>,
        clock: Arc<dyn Clock>,
    ) -> std::io::Result<Self> {
        let view = Arc::new(Mutex::new(view));
        let (orders, taken) = mpsc::channel();
        let mut ears = Ears { live: None, view: Arc::clone(&view), host: Arc::clone(&host), clock, ctx: ctx.clone() };
        let thread = thread::Builder::new().name("listener".to_owned()).spawn(move || ears.run(&taken))?;
        Ok(Self { orders, view, thread: Some(thread), host, ctx: ctx.clone(), listing: None })
    }

    fn order(&self, order: Order) {
        // The thread ends with this alone.
        let _ = self.orders.send(order);
    }

    /// Listens to something, also in place of what is listened to now.
    pub fn listen(&self, source: SourceChoice, loaded: Arc<Loaded>) {
        self.order(Order::Listen(source, loaded));
    }

    /// Listens no more. A recording is finished.
    pub fn stop(&self) {
        self.order(Order::Stop);
    }

    /// Begins to record what is listened to.
    pub fn record(&self, options: RecordOptions) {
        self.order(Order::Record(options));
    }

    /// Ends the recording.
    pub fn stop_recording(&self) {
        self.order(Order::StopRecording);
    }

    /// What there is to show.
    pub fn view(&self) -> MutexGuard<'_, View> {
        lock(&self.view)
    }

    /// Asks which devices there are; the answer comes with [`listed`](Self::listed).
    pub fn list(&mut self) {
        if self.listing.is_some() {
            return;
        }
        let (sender, receiver) = mpsc::channel();
        let (host, ctx) = (Arc::clone(&self.host), self.ctx.clone());
        let list = move || {
            // Nobody waits any more when the window is closed.
            let _ = sender.send(host.devices());
            ctx.request_repaint();
        };
        if thread::Builder::new().name("list-devices".to_owned()).spawn(list).is_ok() {
            self.listing = Some(receiver);
        }
    }

    /// The answer, once.
    pub fn listed(&mut self) -> Option<Listing> {
        let listed = self.listing.as_ref()?.try_recv();
        if matches!(listed, Err(mpsc::TryRecvError::Empty)) {
            return None;
        }
        self.listing = None;
        listed.ok()
    }
}

impl Drop for Listener {
    /// The recording is finished before the program ends.
    fn drop(&mut self) {
        self.order(Order::Quit);
        if let Some(thread) = self.thread.take() {
            // A panic there has printed itself.
            let _ = thread.join();
        }
    }
}

fn lock(view: &Mutex<View>) -> MutexGuard<'_, View> {
    view.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The thread's side.
struct Ears {
    live: Option<(Live, Arc<Loaded>)>,
    view: Arc<Mutex<View>>,
    host: Arc<dyn CaptureHost>,
    clock: Arc<dyn Clock>,
    ctx: egui::Context,
}

impl Ears {
    fn run(&mut self, orders: &Receiver<Order>) {
        loop {
            let order = match &self.live {
                Some(_) => orders.recv_timeout(LOOK_EVERY),
                None => orders.recv().map_err(|_| RecvTimeoutError::Disconnected),
            };
            match order {
                Ok(Order::Quit) | Err(RecvTimeoutError::Disconnected) => return self.stop(),
                Ok(order) => {
                    self.obey(order);
                    self.ctx.request_repaint();
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.look();
        }
    }

    fn obey(&mut self, order: Order) {
        match order {
            Order::Listen(source, loaded) => self.listen(source, loaded),
            Order::Stop => self.stop(),
            Order::Record(options) => match &self.live {
                Some((live, _)) => {
                    lock(&self.view).asked(options.clone());
                    live.command(Command::Record(options));
                }
                None => self.tell("nothing is recorded: nobody listens"),
            },
            Order::StopRecording => {
                if let Some((live, _)) = &self.live {
                    live.command(Command::StopRecording);
                }
            }
            Order::Quit => {}
        }
    }

    fn listen(&mut self, source: SourceChoice, loaded: Arc<Loaded>) {
        let is_device = |choice: Option<&SourceChoice>| choice.is_some_and(|c| !matches!(c, SourceChoice::File(_)));
        let goes_on = is_device(Some(&source)) && is_device(lock(&self.view).source.as_ref());
        // From one device to another the timeline goes on, and with it a recording.
        if let (Some((live, with)), true) = (&self.live, goes_on)
            && Arc::ptr_eq(with, &loaded)
        {
            lock(&self.view).source = Some(source.clone());
            return live.command(Command::Select(source));
        }
        self.stop();
        let metadata = &loaded.model.metadata;
        let options = LiveOptions {
            source: source.clone(),
            record: RecordOptions::default(),
            created: timestamp(SystemTime::now()),
            program: concat!("earmark ", env!("CARGO_PKG_VERSION")).to_owned(),
            model_blake3: loaded.blake3.clone(),
        };
        let (host, clock) = (Arc::clone(&self.host), Arc::clone(&self.clock));
        let begun = lock(&self.view).begin(source, metadata).map_err(|error| error.to_string());
        let started = begun.and_then(|()| {
            Live::start(Arc::clone(&loaded.engine), metadata, host, clock, options).map_err(|error| error.to_string())
        });
        match started {
            Ok(live) => self.live = Some((live, loaded)),
            Err(error) => lock(&self.view).phase = Phase::Failed(error),
        }
    }

    /// Ends the worker, with what it still has to say.
    fn stop(&mut self) {
        let Some((mut live, _)) = self.live.take() else { return };
        live.stop();
        let mut view = lock(&self.view);
        while let Some(event) = live.event(Duration::ZERO) {
            view.event(event);
        }
        view.stopped(self.clock.now());
    }

    /// Takes what is new.
    fn look(&mut self) {
        let Some((live, _)) = &mut self.live else { return };
        let is_over = live.is_over();
        let mut view = lock(&self.view);
        let mut has_changed = false;
        while let Some(event) = live.event(Duration::ZERO) {
            has_changed |= !matches!(&event, Event::Record(_));
            view.event(event);
        }
        has_changed |= view.follow(live.state(), self.clock.now());
        if is_over {
            view.over(self.clock.now());
            (self.live, has_changed) = (None, true);
        }
        drop(view);
        if has_changed {
            self.ctx.request_repaint();
        }
    }

    fn tell(&self, text: &str) {
        lock(&self.view).messages.push((Weight::Error, text.to_owned()));
    }
}
