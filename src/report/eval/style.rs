//! The colours of the report, light and dark, and the rules that give them to the figures and to the page.
//!
//! A figure says by classes what its parts are: `f-ink` fills, `l-first` strokes. The rules are in the file of a figure
//! that stands alone, and once in the page that has them all.

/// A colour, as 24 bits of red, green and blue: its name, on light paper, on dark paper.
type Color = (&'static str, u32, u32);

const COLORS: [Color; 10] = [
    ("paper", 0xff_ff_ff, 0x14_17_1b),
    ("panel", 0xf4_f6_f8, 0x1d_22_28),
    ("ink", 0x1b_1f_24, 0xe6_e9_ed),
    ("soft", 0x57_60_6a, 0xa3_ad_b8),
    ("line", 0xd0_d7_de, 0x39_41_4b),
    // Cells of the confusion matrix, mixed with the paper by their share.
    ("right", 0x0a_4f_82, 0x7c_c4_f5),
    ("wrong", 0x8f_33_00, 0xff_ab_70),
    // Curves and markers: blue, vermilion and green of M. Okabe and K. Ito, darker on light paper.
    ("first", 0x00_72_b2, 0x56_b4_e9),
    ("second", 0xc8_50_00, 0xf0_a3_5c),
    ("third", 0x00_78_5a, 0x3f_cf_a4),
];

/// From this share on, the text of a cell changes from black to white on light paper, and from white to black on dark
/// paper: where both have a contrast of 4.5 to `right` and `wrong`, the least that WCAG 2 asks for.
const CHANGES_LIGHT: f64 = 0.76;
const CHANGES_DARK: f64 = 0.58;

/// What does not depend on the colours.
const FIGURES: &str = "\
.figure{font-family:system-ui,sans-serif;font-size:13px}\
.figure text{font-variant-numeric:tabular-nums}\
.curve{fill:none;stroke-width:2;stroke-linejoin:round}\
.dashed{stroke-dasharray:5 4}\
.bold{font-weight:600}\
.small{font-size:11px}";

/// The class of the text in a cell of which this share, from 0 to 1, is `right` or `wrong`.
pub fn on_cell(share: f64) -> &'static str {
    match share {
        _ if share >= CHANGES_LIGHT => "on-most",
        _ if share >= CHANGES_DARK => "on-much",
        _ => "on-little",
    }
}

/// The rules that a figure needs.
pub fn figures() -> String {
    let mut rules = String::from(FIGURES);
    rules += &mode(|&(_, light, _)| light, ["#000", "#000", "#fff"]);
    let dark = mode(|&(_, _, dark)| dark, ["#fff", "#000", "#000"]);
    rules + &format!("@media (prefers-color-scheme:dark){{{dark}}}")
}

/// The colours as variables, which the page's own rules use.
pub fn variables() -> String {
    let set = |of: fn(&Color) -> u32| {
        let variables = COLORS.iter().map(|color| format!("--{}:#{:06x};", color.0, of(color)));
        format!(":root{{{}}}", variables.collect::<String>())
    };
    let dark = set(|&(_, _, dark)| dark);
    set(|&(_, light, _)| light) + &format!("@media (prefers-color-scheme:dark){{{dark}}}")
}

/// The rules of light or of dark paper; `on_cells` are the texts of cells with little, much and most of their colour.
fn mode(of: fn(&Color) -> u32, on_cells: [&str; 3]) -> String {
    let mut rules = String::new();
    for color in &COLORS {
        let (name, value) = (color.0, of(color));
        rules += &format!(".f-{name}{{fill:#{value:06x}}}.l-{name}{{stroke:#{value:06x}}}");
    }
    for (name, value) in ["little", "much", "most"].iter().zip(on_cells) {
        rules += &format!(".on-{name}{{fill:{value}}}");
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    fn color(name: &str, dark: bool) -> [f64; 3] {
        let found = COLORS.iter().find(|color| color.0 == name).unwrap();
        let value = if dark { found.2 } else { found.1 };
        [16, 8, 0].map(|shift| f64::from(value >> shift & 0xff))
    }

    /// Relative luminance, as WCAG 2 defines it.
    fn luminance(color: [f64; 3]) -> f64 {
        let linear = color.map(|value| match value / 255.0 {
            value if value <= 0.04045 => value / 12.92,
            value => ((value + 0.055) / 1.055).powf(2.4),
        });
        0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    }

    fn contrast(one: [f64; 3], other: [f64; 3]) -> f64 {
        let (one, other) = (luminance(one), luminance(other));
        (one.max(other) + 0.05) / (one.min(other) + 0.05)
    }

    #[test]
    fn texts_and_curves_stand_out_from_the_paper() {
        for dark in [false, true] {
            for paper in ["paper", "panel"] {
                let paper = color(paper, dark);
                for text in ["ink", "soft"] {
                    let found = contrast(paper, color(text, dark));
                    assert!(found >= 4.5, "{text}, dark {dark}: {found}");
                }
                for curve in ["first", "second", "third"] {
                    let found = contrast(paper, color(curve, dark));
                    assert!(found >= 3.0, "{curve}, dark {dark}: {found}");
                }
            }
        }
    }

    #[test]
    fn the_text_of_every_cell_stands_out() {
        for (dark, of_classes) in
            [(false, ["#000", "#000", "#fff"]), (true, ["#fff", "#000", "#000"])]
        {
            for cell in ["right", "wrong"] {
                for percent in 0..=100 {
                    let share = f64::from(percent) / 100.0;
                    let [paper, cell] = [color("paper", dark), color(cell, dark)];
                    let mixed = [0, 1, 2].map(|at| paper[at] + share * (cell[at] - paper[at]));
                    let class = on_cell(share);
                    let at = ["on-little", "on-much", "on-most"].iter().position(|&c| c == class);
                    let text = if of_classes[at.unwrap()] == "#000" { 0.0 } else { 255.0 };
                    let found = contrast(mixed, [text; 3]);
                    assert!(found >= 4.5, "{percent} %, dark {dark}: {found}");
                    assert!(
                        figures()
                            .contains(&format!(".{class}{{fill:{}}}", of_classes[at.unwrap()]))
                    );
                }
            }
        }
    }
}
