//! What helm wrote, read for what it means: never passed on, because it quotes values.

/// What a chart's `kubeVersion` ends in where it does not take the cluster's.
pub(super) const ANOTHER_KUBERNETES: &str = "is for another version of Kubernetes";

/// The end of a sentence about a chart, from what helm wrote. Only places of a strict form are taken from there, and
/// words that are known beforehand: of `text/template`, and of helm's own `pkg/engine` and `pkg/chart`.
pub(super) fn rule_of(said: &str) -> String {
    let known = [
        ("execution error at", "stops itself (`fail` or `required`)"),
        ("nil pointer evaluating", "uses a value that is not there"),
        ("can't evaluate field", "uses a value that is not there"),
        ("function \"", "uses a function that helm does not have"),
        ("values don't meet the specifications of the schema", "is given values that its schema does not take"),
        ("Chart.yaml file is missing", "has no Chart.yaml"),
        ("validation: chart.metadata", "has a Chart.yaml that is not valid"),
        ("kubeVersion", ANOTHER_KUBERNETES),
        ("found in Chart.yaml, but missing in charts/", "needs other charts: put them into its folder charts/"),
        ("YAML parse error", "renders to what is not valid YAML"),
        ("parse error", "has a template that is not valid"),
        ("basic credential not found", "may not be fetched without the registry's credentials (registries)"),
        ("denied", "may not be fetched with the operator's credentials"),
        ("unauthorized", "may not be fetched with the operator's credentials"),
        ("not found", "is not there"),
        ("no chart version found", "is not there in this version"),
        ("connection refused", "cannot be fetched, because the place that it is kept at does not answer"),
        ("no such host", "cannot be fetched, because the place that it is kept at does not answer"),
        ("timeout", "cannot be fetched, because the place that it is kept at does not answer"),
    ];
    let what = known.into_iter().find(|(words, _)| said.contains(words)).map_or("cannot be rendered", |(_, rule)| rule);
    match place_of(said) {
        Some((file, line)) => format!("{what}, in {file}, line {line}"),
        None => what.to_owned(),
    }
}

/// The last `chart/templates/NAME:LINE:` of an error, which is where it happened.
fn place_of(said: &str) -> Option<(&str, &str)> {
    let is_path = |text: &str| {
        text.len() <= 200
            && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-'))
    };
    let mut found = None;
    for (at, _) in said.match_indices("templates/") {
        let Some((file, rest)) = said[at..].split_once(':') else { continue };
        let line = &rest[..rest.bytes().take_while(u8::is_ascii_digit).count()];
        if is_path(file) && (1..=6).contains(&line.len()) {
            found = Some((file, line));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_name_a_place_and_no_value() {
        for (said, rule) in [
            (
                "Error: template: shop/templates/web.yaml:12:20: executing \"shop/templates/web.yaml\" at <.Values.a.b>: nil pointer evaluating interface {}.b",
                "uses a value that is not there, in templates/web.yaml, line 12",
            ),
            (
                "Error: execution error at (shop/templates/web.yaml:3:4): the password hunter2 is too short",
                "stops itself (`fail` or `required`), in templates/web.yaml, line 3",
            ),
            (
                "Error: parse error at (shop/templates/web.yaml:7): missing value for if",
                "has a template that is not valid, in templates/web.yaml, line 7",
            ),
            ("Error: Chart.yaml file is missing", "has no Chart.yaml"),
            ("Error: something <b>else</b> hunter2", "cannot be rendered"),
            ("templates/@everyone:1: x", "cannot be rendered"),
        ] {
            assert_eq!(rule_of(said), rule);
        }
    }
}
