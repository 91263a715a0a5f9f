use clap::{CommandFactory, Parser};
use previewd::identity::Role;

use super::*;

#[test]
fn commands_are_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn help_is_as_written_down() {
    let mut previewd = Cli::command().term_width(100);
    previewd.build();
    let mut text = String::new();
    let mut rest = vec![previewd];
    while let Some(mut command) = rest.pop() {
        text.push_str(&format!("{}\n\n", command.render_help()));
        rest.extend(command.get_subcommands().filter(|command| command.get_name() != "help").cloned());
    }
    insta::assert_snapshot!(text);
}

#[test]
fn a_token_takes_its_teams_one_by_one() {
    let line = "previewd token create --subject ci --role member --team shop --team web --expires 30d --output json";
    let Command::Token(token::Args { command: token::Command::Create(create) }) =
        Cli::try_parse_from(line.split(' ')).unwrap().command
    else {
        panic!("token create")
    };
    assert_eq!((create.team, create.role), (vec!["shop".to_owned(), "web".to_owned()], Role::Member));
    assert_eq!(create.expires.map(|expires| expires.as_secs()), Some(30 * 86_400));
}

#[test]
fn arguments_are_parsed_at_the_edge() {
    for line in [
        "previewd list --repository shop",
        "previewd list --status gone",
        "previewd token create --subject ci --role root",
        "previewd token create --subject ci --role admin --expires soon",
        "previewd serve --listen here",
        "previewd get",
    ] {
        assert_eq!(Cli::try_parse_from(line.split(' ')).unwrap_err().exit_code(), 2, "{line}");
    }
    assert!(Cli::try_parse_from("previewd list --repository acme/shop --status running".split(' ')).is_ok());
}

#[test]
fn flags_for_all_commands_may_stand_after_the_command() {
    let cli = Cli::try_parse_from("previewd doctor --config x.toml --log-format json".split(' ')).unwrap();
    assert_eq!(cli.global.config, Some(PathBuf::from("x.toml")));
    assert_eq!(cli.global.log_format, Some(LogFormat::Json));
}

#[test]
fn errors_and_their_causes_take_a_line_each() {
    let io = std::io::Error::other("disk\nfull");
    let error = anyhow::Error::from(ConfigError::Read { path: "x.toml".into(), source: io });
    assert_eq!(describe(&error), ["error: cannot read the configuration x.toml", "  because: disk full"]);
}
