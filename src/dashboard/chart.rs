//! Small charts, drawn on the server.

use std::fmt::Write;

/// The drawing's own units; it is stretched to the page.
const WIDTH: f64 = 480.0;
const HEIGHT: f64 = 100.0;

/// One line over the last day, with the quota where it is near enough to be seen. `points`: when, from 0 (a day ago) to 1
/// (now), and how much. `says`: what it shows, for whoever does not see it. None where there is nothing to draw.
pub(super) fn line(points: &[(f64, f64)], quota: f64, says: &str) -> Option<String> {
    let highest = points.iter().map(|(_, amount)| *amount).fold(0.0, f64::max);
    if points.len() < 2 || highest <= 0.0 {
        return None;
    }
    let top = if highest * 3.0 > quota { highest.max(quota) * 1.1 } else { highest * 1.2 };
    let x = |at: f64| at.clamp(0.0, 1.0) * WIDTH;
    let y = |amount: f64| HEIGHT - amount / top * HEIGHT;
    let mut path = String::new();
    for (at, amount) in points {
        let _ = write!(path, "{}{:.1} {:.1}", if path.is_empty() { "M" } else { "L" }, x(*at), y(*amount));
    }
    let (first, last) = (x(points.first()?.0), x(points.last()?.0));
    let quota_line = if quota <= top {
        format!("<line class=\"quota\" x1=\"0\" x2=\"{WIDTH}\" y1=\"{0:.1}\" y2=\"{0:.1}\"/>", y(quota))
    } else {
        String::new()
    };
    let says = crate::text::escape_html(says);
    Some(format!(
        "<svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" preserveAspectRatio=\"none\" role=\"img\" \
         aria-label=\"{says}\"><path class=\"area\" d=\"{path}L{last:.1} {HEIGHT}L{first:.1} {HEIGHT}Z\"/>\
         <path class=\"line\" d=\"{path}\"/>{quota_line}</svg>"
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_stay_within_their_frame() {
        let drawn = line(&[(0.0, 10.0), (0.5, 480.0), (1.0, 20.0)], 500.0, "CPU <peak>").unwrap();
        assert!(drawn.contains("class=\"quota\"") && drawn.contains("CPU &lt;peak&gt;"));
        assert!(drawn.contains("M0.0 98.2L240.0 12.7L480.0 96.4"), "{drawn}");
        assert!(!line(&[(0.0, 1.0), (1.0, 2.0)], 500.0, "").unwrap().contains("quota"), "far below it");
        assert_eq!(line(&[(0.0, 0.0), (1.0, 0.0)], 500.0, ""), None);
        assert_eq!(line(&[(0.0, 5.0)], 500.0, ""), None);
    }
}
