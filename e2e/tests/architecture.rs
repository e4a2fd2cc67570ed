//! ARCHITECTURE.md is true: every function that "The way of one update" names
//! exists in its file, and every file that the documents link to exists. The faults
//! of `scripts/mutants` still fit the sources.

use std::path::Path;
use std::process::Command;

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

fn read(path: &str) -> String {
    std::fs::read_to_string(root().join(path)).unwrap_or_else(|e| panic!("{path}: {e}"))
}

#[test]
fn the_way_of_one_update_names_functions_that_exist() {
    let text = read("ARCHITECTURE.md");
    let section = text.split("## The way of one update").nth(1).expect("the section is there");
    let section = section.split("\n## ").next().unwrap();
    let mut steps = 0;
    for line in section.lines().filter(|line| line.starts_with("| ") && line.contains('`')) {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let [_, _, file, function, _] = cells[..] else { panic!("not a step: {line}") };
        let (file, function) = (file.trim_matches('`'), function.trim_matches('`'));
        let source = read(file);
        let defined = [format!("fn {function}("), format!("fn {function}<")];
        assert!(
            defined.iter().any(|signature| source.contains(signature.as_str())),
            "{file} has no function {function}"
        );
        steps += 1;
    }
    assert!(steps >= 10, "only {steps} steps: has the table's form changed?");
}

#[test]
fn linked_files_exist() {
    for document in ["README.md", "ARCHITECTURE.md", "bench/README.md", "crates/ipc/README.md"] {
        let folder = Path::new(document).parent().unwrap();
        for link in read(document).split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = link.split('#').next().unwrap();
            if file.is_empty() || link.contains("://") {
                continue;
            }
            let path = root().join(folder).join(file);
            assert!(path.exists(), "{document} links to {link}, which is missing");
        }
    }
}

#[test]
fn the_mutants_fit_the_sources() {
    let mut patches = 0;
    for file in std::fs::read_dir(root().join("scripts/mutants.d")).unwrap() {
        let patch = file.unwrap().path();
        // It works outside a repository, too.
        let output = Command::new("git")
            .args(["apply", "--check"])
            .arg(&patch)
            .current_dir(root())
            .output()
            .expect("git");
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{}: {}", patch.display(), error.trim());
        patches += 1;
    }
    assert!(patches >= 12, "only {patches} faults: has the folder moved?");
}
