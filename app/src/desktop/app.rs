//! The window: pages, the way between them, shortcuts, and messages.
//!
//! ```text
//! logic: shortcuts, what pages asked for, what background threads finished    ui: navigation | page, messages on top
//! ```

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, TryRecvError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, anyhow};
use eframe::egui::{self, Align, Align2, Color32, Key, KeyboardShortcut, Layout, Modifiers, RichText, Sense, Ui, vec2};

use super::adapt::AdaptPage;
use super::context::{Command, Loaded, Page, Shared, Toast, Weight};
use super::files::FilesPage;
use super::live::LivePage;
use super::model::ModelPage;
use super::{settings, theme};
use crate::args::DesktopArgs;

/// How long a note is shown.
const NOTE_SECS: Duration = Duration::from_secs(6);

/// Most messages at a time; older ones make room.
const MAX_TOASTS: usize = 5;

/// The window's contents.
pub struct Desktop {
    shared: Shared,
    page: Page,
    live: LivePage,
    files: FilesPage,
    model: ModelPage,
    adapt: AdaptPage,
    /// Where settings are kept.
    settings_path: Option<PathBuf>,
    toasts: Vec<(Toast, Instant)>,
    loading: Option<Receiver<Result<Loaded>>>,
    began: Instant,
    counter: Option<Counter>,
}

impl Desktop {
    /// Opens on the live page.
    ///
    /// # Errors
    /// If nothing can be listened to: the model's tags cannot be used, or no thread can be started.
    pub fn new(
        ctx: &egui::Context,
        mut shared: Shared,
        settings_path: Option<PathBuf>,
        args: DesktopArgs,
    ) -> Result<Self> {
        let mut live = LivePage::new(ctx, &mut shared)?;
        live.shows_raw(args.raw);
        match args.file {
            Some(file) => live.open(file, &mut shared),
            None if args.listen => live.listen(),
            None => {}
        }
        let page = args.page.map(|name| {
            let found = Page::ALL.into_iter().find(|page| page.name().eq_ignore_ascii_case(&name));
            found.ok_or_else(|| anyhow!("'{name}' is no page; use live, files, model, adapt or settings"))
        });
        let page = page.transpose()?.unwrap_or(Page::Live);
        let counter = args.frames.map(Counter::new);
        let mut desktop = Self { page, counter, ..Self::with(ctx, shared, settings_path, live) };
        if let Some(music) = args.music {
            desktop.adapt.choose_music(music);
        }
        Ok(desktop)
    }

    /// With a live page that is there already.
    pub fn with(ctx: &egui::Context, mut shared: Shared, settings_path: Option<PathBuf>, live: LivePage) -> Self {
        theme::apply(ctx);
        apply(ctx, &shared);
        let adapt = AdaptPage::new(&mut shared);
        Self {
            adapt,
            shared,
            page: Page::Live,
            live,
            files: FilesPage::default(),
            model: ModelPage::default(),
            settings_path,
            toasts: Vec::new(),
            loading: None,
            began: Instant::now(),
            counter: None,
        }
    }

    /// The live page.
    #[cfg(test)]
    pub fn live(&self) -> &LivePage {
        &self.live
    }

    fn do_commands(&mut self, ctx: &egui::Context) {
        for command in self.shared.take_commands() {
            match command {
                Command::Open(page) => self.page = page,
                Command::LoadModel(file) => self.load_model(ctx, file),
                Command::SaveSettings => self.save(ctx),
                Command::Tell(toast) => {
                    // The same again says nothing new.
                    self.toasts.retain(|(known, _)| *known != toast);
                    self.toasts.push((toast, Instant::now()));
                    if self.toasts.len() > MAX_TOASTS {
                        self.toasts.remove(0);
                    }
                }
            }
            ctx.request_repaint();
        }
    }

    fn save(&mut self, ctx: &egui::Context) {
        apply(ctx, &self.shared);
        let saved = self.settings_path.as_deref().map_or(Ok(()), |path| self.shared.settings.save(path));
        if let Err(error) = saved {
            self.shared.error(format!("the settings are not kept: {error:#}"));
        }
    }

    fn load_model(&mut self, ctx: &egui::Context, file: Option<PathBuf>) {
        let (sender, receiver) = mpsc::channel();
        let ctx = ctx.clone();
        let load = move || {
            // Nobody waits any more when the window is closed.
            let _ = sender.send(Loaded::open(file.as_deref()));
            ctx.request_repaint();
        };
        match thread::Builder::new().name("load-model".to_owned()).spawn(load) {
            Ok(_) => (self.loading, self.shared.is_loading) = (Some(receiver), true),
            Err(error) => self.shared.error(format!("no thread could be started: {error}; end other programs")),
        }
    }

    fn take_model(&mut self) {
        let Some(loading) = &self.loading else { return };
        let loaded = match loading.try_recv() {
            Err(TryRecvError::Empty) => return,
            Err(TryRecvError::Disconnected) => Err(anyhow!("the model could not be loaded")),
            Ok(loaded) => loaded,
        };
        (self.loading, self.shared.is_loading) = (None, false);
        match loaded {
            Ok(loaded) => {
                self.shared.note(format!("{} on {}", loaded.model.metadata.name, loaded.device));
                if self.shared.settings.model != loaded.file {
                    self.shared.settings.model.clone_from(&loaded.file);
                    self.shared.send(Command::SaveSettings);
                }
                self.shared.loaded = Arc::new(loaded);
            }
            Err(error) => self.shared.error(format!("{error:#}")),
        }
    }

    fn shortcuts(&mut self, ctx: &egui::Context) {
        let control = |key| KeyboardShortcut::new(Modifiers::COMMAND, key);
        let keys = [Key::Num1, Key::Num2, Key::Num3, Key::Num4, Key::Comma];
        for (page, key) in Page::ALL.into_iter().zip(keys) {
            if ctx.input_mut(|input| input.consume_shortcut(&control(key))) {
                self.page = page;
            }
        }
        // Ctrl with plus, minus and zero changes the zoom in egui itself; it is kept like any other setting.
        let zoom = ctx.zoom_factor();
        if (zoom - self.shared.settings.scale).abs() > 1e-3 {
            self.shared.settings.scale = zoom.clamp(*theme::SCALES.start(), *theme::SCALES.end());
            self.shared.send(Command::SaveSettings);
        }
    }

    fn navigation(&mut self, ui: &mut Ui) {
        let palette = theme::of(ui);
        let frame = egui::Frame::new().inner_margin(egui::Margin::symmetric(12, 20));
        let panel = egui::Panel::left("navigation").exact_size(theme::NAVIGATION).resizable(false);
        panel.show_separator_line(true).frame(frame).show(ui, |ui| {
            ui.horizontal(|ui| {
                ui.add_space(theme::SMALL);
                mark(ui);
                ui.label(RichText::new("Earmark").text_style(egui::TextStyle::Heading).color(palette.strong));
            });
            ui.add_space(theme::WIDE);
            for page in Page::ALL {
                let hint =
                    if page == Page::Settings { "Ctrl ,".to_owned() } else { format!("Ctrl {}", page as usize + 1) };
                if entry(ui, page, self.page == page).on_hover_text(hint).clicked() {
                    self.page = page;
                }
                ui.add_space(-theme::SMALL);
            }
            ui.with_layout(Layout::bottom_up(Align::Min), |ui| {
                let loaded = &self.shared.loaded;
                let small = |text: &str| RichText::new(text).text_style(theme::small()).color(palette.muted);
                let name = if self.shared.is_loading { "loading a model …" } else { &loaded.model.metadata.name };
                ui.spacing_mut().item_spacing.y = theme::SMALL;
                ui.label(small(&loaded.device));
                ui.label(small(name));
            });
        });
    }

    fn messages(&mut self, ctx: &egui::Context) {
        let now = Instant::now();
        self.toasts.retain(|(toast, since)| toast.weight == Weight::Error || now - *since < NOTE_SECS);
        let next = self.toasts.iter().filter(|(toast, _)| toast.weight == Weight::Note);
        if let Some(left) = next.map(|(_, since)| NOTE_SECS.saturating_sub(now - *since)).min() {
            ctx.request_repaint_after(left);
        }
        if self.toasts.is_empty() {
            return;
        }
        let corner = vec2(-theme::PAGE, -theme::PAGE);
        egui::Area::new(egui::Id::unique("messages"))
            .anchor(Align2::RIGHT_BOTTOM, corner)
            .order(egui::Order::Foreground)
            .show(ctx, |ui| {
                let mut dismissed = None;
                for (index, (toast, _)) in self.toasts.iter().enumerate() {
                    if message(ui, toast) {
                        dismissed = Some(index);
                    }
                }
                if let Some(index) = dismissed {
                    self.toasts.remove(index);
                }
            });
    }
}

impl eframe::App for Desktop {
    fn logic(&mut self, ctx: &egui::Context, _frame: &mut eframe::Frame) {
        self.began = Instant::now();
        self.shortcuts(ctx);
        self.take_model();
        self.live.logic(ctx, &mut self.shared);
        self.files.logic(ctx, &mut self.shared);
        self.model.logic(ctx, &mut self.shared);
        self.adapt.logic(ctx, &mut self.shared);
        self.do_commands(ctx);
    }

    fn ui(&mut self, ui: &mut Ui, _frame: &mut eframe::Frame) {
        self.navigation(ui);
        // The ground is what the frame was cleared with: on a software renderer filling it again would cost a third of it.
        let frame = egui::Frame::new().inner_margin(theme::PAGE);
        egui::CentralPanel::default().frame(frame).show(ui, |ui| match self.page {
            Page::Live => self.live.ui(ui, &mut self.shared),
            Page::Files => self.files.ui(ui, &mut self.shared),
            Page::Model => self.model.ui(ui, &mut self.shared),
            Page::Adapt => self.adapt.ui(ui, &mut self.shared),
            Page::Settings => settings::ui(ui, &mut self.shared),
        });
        let ctx = ui.ctx().clone();
        self.messages(&ctx);
        // What the page asked for shall not wait for the next event.
        self.do_commands(&ctx);
        self.shared.frames.push(self.began.elapsed().as_secs_f32() * 1_000.0);
        if let Some(counter) = &mut self.counter
            && counter.is_over()
        {
            println!("{}", counter.result());
            ctx.send_viewport_cmd(egui::ViewportCommand::Close);
            self.counter = None;
        }
    }

    fn clear_color(&self, visuals: &egui::Visuals) -> [f32; 4] {
        visuals.panel_fill.to_normalized_gamma_f32()
    }
}

/// Frames before these are not counted, in seconds: fonts are drawn and the first window is heard.
const WARM_UP: Duration = Duration::from_secs(4);

/// Counts frames, and measures the time from each to the next.
struct Counter {
    began: Instant,
    until: Instant,
    last: Option<Instant>,
    between_ms: Vec<f64>,
}

impl Counter {
    fn new(secs: f64) -> Self {
        let began = Instant::now() + WARM_UP;
        let secs = Duration::try_from_secs_f64(secs).unwrap_or_default();
        Self { began, until: began + secs, last: None, between_ms: Vec::new() }
    }

    /// Another frame; whether it was the last.
    fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if now < self.began {
            return false;
        }
        if let Some(last) = self.last.replace(now) {
            self.between_ms.push((now - last).as_secs_f64() * 1_000.0);
        }
        now >= self.until
    }

    fn result(&mut self) -> String {
        self.between_ms.sort_by(f64::total_cmp);
        let count = self.between_ms.len();
        let secs = self.between_ms.iter().sum::<f64>() / 1_000.0;
        let p95 = self.between_ms.get((count * 95).div_ceil(100).saturating_sub(1)).copied().unwrap_or(f64::NAN);
        format!("RESULT desktop fps={:.1} frame_p95_ms={p95:.1}", count as f64 / secs.max(1e-9))
    }
}

/// Theme and scale as the settings have them.
fn apply(ctx: &egui::Context, shared: &Shared) {
    ctx.set_theme(egui::ThemePreference::from(shared.settings.theme));
    ctx.set_zoom_factor(shared.settings.scale);
}

/// The program's sign: bars of a taggram.
fn mark(ui: &mut Ui) {
    let (rect, _) = ui.allocate_exact_size(vec2(18.0, 18.0), Sense::hover());
    let accent = theme::of(ui).accent;
    for (index, (top, height)) in [(7.0, 4.0), (3.0, 12.0), (0.0, 18.0), (5.0, 8.0)].into_iter().enumerate() {
        let left_top = rect.left_top() + vec2(index as f32 * 4.75, top);
        ui.painter().rect_filled(egui::Rect::from_min_size(left_top, vec2(3.0, height)), 1.5, accent);
    }
}

/// A page in the navigation.
fn entry(ui: &mut Ui, page: Page, is_open: bool) -> egui::Response {
    let palette = theme::of(ui);
    let text = RichText::new(page.name()).color(if is_open { palette.strong } else { palette.muted });
    let button = egui::Button::selectable(is_open, (text, egui::Atom::grow()))
        .min_size(vec2(ui.available_width(), theme::CONTROL + theme::SMALL))
        .stroke(egui::Stroke::NONE)
        .fill(if is_open { palette.raised } else { Color32::TRANSPARENT });
    ui.add(button)
}

/// A message; true if it shall go.
fn message(ui: &mut Ui, toast: &Toast) -> bool {
    let palette = theme::of(ui);
    let color = if toast.weight == Weight::Error { palette.danger } else { palette.accent };
    let frame = theme::above(ui).stroke(egui::Stroke::new(1.0, color)).inner_margin(egui::Margin::symmetric(14, 10));
    let response = frame.show(ui, |ui| {
        ui.set_max_width(420.0);
        ui.horizontal(|ui| {
            let is_dismissed = ui
                .scope(|ui| {
                    ui.set_max_width(340.0);
                    ui.label(RichText::new(&toast.text).color(palette.text));
                    false
                })
                .inner;
            if let Some(file) = &toast.file
                && ui.button("Copy path").clicked()
            {
                ui.ctx().copy_text(file.display().to_string());
            }
            let close = ui.add(egui::Button::new("×").frame(false)).on_hover_text("Dismiss").accessible_name("Dismiss");
            is_dismissed || close.clicked()
        })
        .inner
    });
    // Read aloud when it appears.
    ui.ctx().accesskit_node_builder(response.response.id, |node| {
        node.set_role(egui::accesskit::Role::Alert);
        node.set_label(toast.text.clone());
    });
    response.inner
}
