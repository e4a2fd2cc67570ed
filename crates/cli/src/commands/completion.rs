//! `rtm completion SHELL`: a script made of the table of help topics.
//!
//! The words behind a command are those its usage names: keywords and options
//! are lower case there, values upper case. Where a file is wanted, the shell
//! completes files.

use std::fmt::Write as _;

use rtm_model::text::Shell;

use crate::env::Env;
use crate::failure::Result;
use crate::help::{OPTIONS, TOPICS, Topic, children};

pub(crate) fn run(env: &mut Env<'_>, shell: Shell) -> Result<()> {
    Ok(env.out.text(&script(shell))?)
}

/// The script for a shell.
fn script(shell: Shell) -> String {
    match shell {
        Shell::Bash => bash(),
        Shell::Zsh => zsh(),
        Shell::Fish => fish(),
    }
}

/// Every path that other words can follow: the root, the groups, the commands.
fn paths() -> Vec<String> {
    let mut paths = vec![String::new()];
    for topic in TOPICS {
        if let Some((group, _)) = topic.words.split_once(' ') {
            if !paths.iter().any(|path| path == group) {
                paths.push(group.to_owned());
            }
        }
        if !paths.iter().any(|path| path == topic.words) {
            paths.push(topic.words.to_owned());
        }
    }
    paths
}

/// The words that may follow a path.
fn words(path: &str) -> Vec<String> {
    let mut words: Vec<String> = children(path).into_iter().map(str::to_owned).collect();
    if let Some(topic) = TOPICS.iter().find(|topic| topic.words == path) {
        for word in keywords(topic) {
            if !words.contains(&word) {
                words.push(word);
            }
        }
    }
    words
}

/// The lower-case words of a topic's usage and options.
fn keywords(topic: &Topic) -> Vec<String> {
    let mut words: Vec<String> = Vec::new();
    let text = topic.usage.iter().copied().chain(topic.options.iter().map(|(name, _)| *name));
    for word in text.flat_map(|line| line.split(|c: char| !c.is_alphanumeric() && c != '-')) {
        let is_keyword = word.len() > 1
            && word.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-');
        if is_keyword && !words.iter().any(|known| known == word) {
            words.push(word.to_owned());
        }
    }
    words
}

/// Does this command take a file?
fn takes_file(path: &str) -> bool {
    matches!(path, "route load" | "route save" | "-batch")
}

fn option_words() -> Vec<&'static str> {
    OPTIONS.iter().flat_map(|option| option.forms.iter().copied()).collect()
}

fn options_with_argument() -> String {
    OPTIONS
        .iter()
        .filter(|option| !option.argument.is_empty() && !option.argument.starts_with('['))
        .flat_map(|option| option.forms.iter().copied())
        .collect::<Vec<_>>()
        .join("|")
}

/// The arms of a shell's `case` over the words before the cursor, the most
/// specific first.
fn arms(assign: impl Fn(&[String], bool) -> String) -> String {
    let mut paths = paths();
    paths.sort_by_key(|path| std::cmp::Reverse(path.split_whitespace().count()));
    let mut arms = String::new();
    for path in paths {
        let mut words = words(&path);
        if path.is_empty() {
            words.extend(option_words().into_iter().map(str::to_owned));
        }
        let is_command = TOPICS.iter().any(|topic| topic.words == path);
        // Behind a command come its arguments; a group must match whole.
        let pattern = if is_command { format!("\"{path}\"*") } else { format!("\"{path}\"") };
        let _ = writeln!(arms, "    {pattern}) {} ;;", assign(&words, takes_file(&path)));
    }
    arms
}

fn bash() -> String {
    let arms = arms(|words, file| {
        let files = if file { " files=1" } else { "" };
        format!("words='{}'{files}", words.join(" "))
    });
    format!(
        "# bash completion for rtm; made by 'rtm completion bash'\n\
         _rtm() {{\n  local cur=${{COMP_WORDS[COMP_CWORD]}} path='' words='' files='' i\n  \
         for ((i = 1; i < COMP_CWORD; i++)); do\n    case ${{COMP_WORDS[i]}} in\n      \
         {}) ((i++)) ;;\n      -batch) path=${{path:+$path }}-batch ;;\n      -*) ;;\n      \
         *) path=${{path:+$path }}${{COMP_WORDS[i]}} ;;\n    esac\n  done\n  case $path in\n{arms}  esac\n  \
         mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n  \
         if [[ -n $files ]]; then\n    compopt -o filenames\n    \
         mapfile -t -O \"${{#COMPREPLY[@]}}\" COMPREPLY < <(compgen -f -- \"$cur\")\n  fi\n}}\n\
         complete -F _rtm rtm\n",
        options_with_argument()
    )
}

fn zsh() -> String {
    let arms = arms(|words, file| {
        let files = if file { "; _files" } else { "" };
        format!("compadd -- {}{files}", words.join(" "))
    });
    format!(
        "#compdef rtm\n# zsh completion for rtm; made by 'rtm completion zsh'\n\
         _rtm() {{\n  local path_='' i\n  for ((i = 2; i < CURRENT; i++)); do\n    case ${{words[i]}} in\n      \
         {}) ((i++)) ;;\n      -batch) path_=${{path_:+$path_ }}-batch ;;\n      -*) ;;\n      \
         *) path_=${{path_:+$path_ }}${{words[i]}} ;;\n    esac\n  done\n  case $path_ in\n{arms}  esac\n}}\n\
         if [[ $funcstack[1] == _rtm ]]; then _rtm \"$@\"; else compdef _rtm rtm; fi\n",
        options_with_argument()
    )
}

fn fish() -> String {
    let mut script = String::from(
        "# fish completion for rtm; made by 'rtm completion fish'\n\
         function __rtm_at\n  set -l path (string match -v -- '-*' (commandline -opc)[2..-1])\n  \
         test \"$path\" = \"$argv\"\nend\n\
         function __rtm_below\n  set -l path (string match -v -- '-*' (commandline -opc)[2..-1])\n  \
         string match -q -- \"$argv*\" \"$path\"\nend\ncomplete -c rtm -f\n",
    );
    for path in paths().iter().filter(|path| !path.starts_with('-')) {
        for child in children(path).iter().filter(|child| !child.starts_with('-')) {
            let whole =
                if path.is_empty() { (*child).to_owned() } else { format!("{path} {child}") };
            let about =
                TOPICS.iter().find(|topic| topic.words == whole).map_or("", |topic| topic.about);
            let about = about.replace('\'', "\\'");
            let _ =
                writeln!(script, "complete -c rtm -n '__rtm_at {path}' -a '{child}' -d '{about}'");
        }
    }
    for topic in TOPICS.iter().filter(|topic| !topic.words.starts_with('-')) {
        let keywords = keywords(topic).join(" ");
        if !keywords.is_empty() {
            let _ = writeln!(
                script,
                "complete -c rtm -n '__rtm_below {}' -a '{keywords}'",
                topic.words
            );
        }
        if takes_file(topic.words) {
            let _ = writeln!(script, "complete -c rtm -n '__rtm_below {}' -F", topic.words);
        }
    }
    for option in OPTIONS {
        let forms: Vec<String> = option
            .forms
            .iter()
            .map(|form| match form.strip_prefix("--") {
                Some(long) => format!("-l {long}"),
                None if form.len() == 2 => format!("-s {}", &form[1..]),
                None => format!("-o {}", &form[1..]),
            })
            .collect();
        let about = option.about.replace('\'', "\\'");
        let _ = writeln!(script, "complete -c rtm {} -d '{about}'", forms.join(" "));
    }
    script
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn keywords_are_the_lower_case_words() {
        let topic = TOPICS.iter().find(|topic| topic.words == "route add").unwrap();
        let words = keywords(topic);
        for word in
            ["via", "inet6", "dev", "onlink", "nexthop", "weight", "metric", "table", "distance"]
        {
            assert!(words.contains(&word.to_owned()), "{word}: {words:?}");
        }
        assert!(
            !words.iter().any(|word| word.chars().any(|c| c.is_ascii_uppercase())),
            "{words:?}"
        );
    }

    /// Asks bash itself what it would complete.
    fn complete(line: &str) -> String {
        let words: Vec<&str> = line.split(' ').collect();
        let script = format!(
            "{}\nCOMP_WORDS=({}) COMP_CWORD={}\n_rtm\nprintf '%s\\n' \"${{COMPREPLY[@]}}\"\n",
            bash(),
            words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" "),
            words.len() - 1
        );
        let mut child = Command::new("bash")
            .args(["--norc", "-s"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("bash runs");
        child.stdin.take().unwrap().write_all(script.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        String::from_utf8(output.stdout).unwrap()
    }

    #[test]
    fn bash_completes_each_level() {
        assert_eq!(complete("rtm neig").trim(), "neigh");
        assert_eq!(complete("rtm -j route ad").trim(), "add");
        assert_eq!(complete("rtm --socket /x route fl").trim(), "flush");
        assert_eq!(complete("rtm route add 10/8 vi").trim(), "via");
        assert_eq!(complete("rtm route show --co").trim(), "--count");
        assert_eq!(complete("rtm client li").trim(), "list");
        assert_eq!(complete("rtm completion z").trim(), "zsh");
    }

    #[test]
    fn every_shell_has_a_script() {
        for (shell, begin) in
            [(Shell::Bash, "# bash"), (Shell::Zsh, "#compdef rtm"), (Shell::Fish, "# fish")]
        {
            assert!(script(shell).starts_with(begin), "{shell:?}");
        }
    }
}
