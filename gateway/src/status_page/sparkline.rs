//! A small picture of numbers over time, as SVG in the page.

use maud::{Markup, html};

/// Draws numbers, oldest first, with `name` and what they are now for those who do not see it.
pub(super) fn sparkline(name: &str, values: &[u64], shown: impl Fn(u64) -> String) -> Markup {
    let most = values.iter().copied().max().unwrap_or_default();
    let now = values.last().copied().unwrap_or_default();
    let words = format!("{name} over the last half hour: now {}, at most {}", shown(now), shown(most));
    html! {
        figure {
            figcaption { (name) " " strong { (shown(now)) } " " small { "at most " (shown(most)) } }
            svg role="img" aria-label=(words) viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" {
                polyline points=(points(values, most)) fill="none" stroke="currentColor" stroke-width="1.5"
                    vector-effect="non-scaling-stroke";
            }
        }
    }
}

fn points(values: &[u64], most: u64) -> String {
    let count = values.len().max(2) as u64;
    let x = |at: usize| at as u64 * WIDTH / (count - 1);
    let height = |value: u64| {
        let scaled = u128::from(value) * u128::from(HEIGHT - 2) / u128::from(most.max(1));
        HEIGHT - 1 - u64::try_from(scaled).unwrap_or_default()
    };
    let points: Vec<_> = values.iter().enumerate().map(|(at, value)| format!("{},{}", x(at), height(*value))).collect();
    points.join(" ")
}

const WIDTH: u64 = 360;
const HEIGHT: u64 = 40;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn picture_stays_within_its_box_whatever_the_numbers() {
        assert_eq!(points(&[0, 5, 10], 10), "0,39 180,20 360,1");
        assert_eq!(points(&[u64::MAX, 0], u64::MAX), "0,1 360,39");
        assert_eq!((points(&[], 0), points(&[7], 7)), (String::new(), "0,1".to_owned()));
    }
}
