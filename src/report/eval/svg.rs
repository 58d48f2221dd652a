//! Figures as SVG text. Parts have classes, of which [`super::style`] says how they look, so that one figure is readable on
//! light and dark paper, alone and inside the page.

use std::fmt::Write;

use super::style;
use super::text::escape;

/// A figure that is being drawn. Places and sizes are in pixels, from the upper left corner.
#[derive(Debug)]
pub struct Svg {
    width: f64,
    height: f64,
    title: String,
    body: String,
}

/// On which side of its point a text is.
#[derive(Debug, Clone, Copy)]
pub enum Anchor {
    /// It begins there.
    Start,
    /// It has its middle there.
    Middle,
    /// It ends there.
    End,
}

impl Anchor {
    fn name(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

impl Svg {
    /// An empty figure; the title is what a screen reader says of it.
    pub fn new(width: f64, height: f64, title: impl Into<String>) -> Self {
        Self { width, height, title: title.into(), body: String::new() }
    }

    /// Draws a rectangle from its upper left corner, with a share of its colour, from 0 to 1, and a text that appears
    /// under the pointer.
    pub fn cell(
        &mut self,
        [x, y]: [f64; 2],
        [width, height]: [f64; 2],
        share: f64,
        class: &str,
        tip: &str,
    ) {
        let tip = escape(tip);
        self.tag(format_args!(
            r#"<rect class="{class}" fill-opacity="{share:.2}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"><title>{tip}</title></rect>"#
        ));
    }

    /// Draws a line.
    pub fn line(&mut self, [x1, y1]: [f64; 2], [x2, y2]: [f64; 2], class: &str) {
        self.tag(format_args!(
            r#"<line class="{class}" x1="{x1:.1}" y1="{y1:.1}" x2="{x2:.1}" y2="{y2:.1}"/>"#
        ));
    }

    /// Draws a line through points.
    pub fn curve(&mut self, points: &[[f64; 2]], class: &str) {
        let points: Vec<String> = points.iter().map(|[x, y]| format!("{x:.1},{y:.1}")).collect();
        self.tag(format_args!(
            r#"<polyline class="curve {class}" points="{}"/>"#,
            points.join(" ")
        ));
    }

    /// Draws the marker with this number around a point: a circle, a square, a diamond.
    pub fn marker(&mut self, [x, y]: [f64; 2], number: usize, class: &str) {
        let path = match number % 3 {
            0 => format!("M{:.1} {y:.1}a4 4 0 1 0 8 0a4 4 0 1 0 -8 0z", x - 4.0),
            1 => format!("M{:.1} {:.1}h7v7h-7z", x - 3.5, y - 3.5),
            _ => format!("M{x:.1} {:.1}l5.5 5.5l-5.5 5.5l-5.5 -5.5z", y - 5.5),
        };
        self.tag(format_args!(r#"<path class="{class}" d="{path}"/>"#));
    }

    /// Writes a text whose middle has the height of a point.
    pub fn text(&mut self, point: [f64; 2], anchor: Anchor, class: &str, text: &str) {
        self.turned(point, 0.0, anchor, class, text);
    }

    /// The same, turned by so many degrees around the point, clockwise.
    pub fn turned(&mut self, [x, y]: [f64; 2], by: f64, anchor: Anchor, class: &str, text: &str) {
        let (anchor, text) = (anchor.name(), escape(text));
        let turn = match by {
            0.0 => String::new(),
            _ => format!(r#" transform="rotate({by:.0} {x:.1} {y:.1})""#),
        };
        // `dominant-baseline` is not known everywhere; 0.35 of the size is half the height of a capital.
        self.tag(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" dy="0.35em" text-anchor="{anchor}"{turn}>{text}</text>"#
        ));
    }

    fn tag(&mut self, tag: std::fmt::Arguments) {
        // Infallible: a String takes everything.
        let _ = self.body.write_fmt(tag);
        self.body.push('\n');
    }

    /// The figure for a page that has [`style::figures`].
    pub fn inline(&self) -> String {
        self.with("", "")
    }

    /// The figure as a file of its own.
    pub fn file(&self) -> String {
        let style = format!("<style>{}</style>\n", style::figures());
        self.with(" xmlns=\"http://www.w3.org/2000/svg\"", &style)
    }

    fn with(&self, namespace: &str, style: &str) -> String {
        let Self { width, height, title, body } = self;
        let title = escape(title);
        format!(
            "<svg{namespace} class=\"figure\" role=\"img\" width=\"{width:.0}\" height=\"{height:.0}\" \
             viewBox=\"0 0 {width:.0} {height:.0}\">\n<title>{title}</title>\n{style}\
             <rect class=\"f-paper\" width=\"100%\" height=\"100%\"/>\n{body}</svg>\n"
        )
    }
}
