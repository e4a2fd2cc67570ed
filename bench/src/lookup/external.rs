//! Rivals that are programs of their own: DPDK's structures (`bench/c/dpdk.c`) and
//! the crates (`bench/rivals`). Both are asked by lines, as `dpdk.c` tells.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

use crate::harness::worker::die_with_parent;

/// A running program that holds one structure. Dropping it ends it.
pub(crate) struct Program {
    name: String,
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Program {
    /// Starts it; it builds its structure until [`Self::ready`].
    pub(crate) fn start(
        name: &str,
        directory: &Path,
        program: &Path,
        arguments: &[&str],
    ) -> Result<Self> {
        let mut command = Command::new(program);
        // Where DPDK keeps what it needs at run time: gone with the bench.
        command.env("RUNTIME_DIRECTORY", directory);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child =
            die_with_parent(&mut command).spawn().with_context(|| program.display().to_string())?;
        let questions = child.stdin.take().context("no standard input")?;
        let answers = BufReader::new(child.stdout.take().context("no standard output")?);
        Ok(Self { name: name.to_owned(), child, questions, answers })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Waits until its structure stands.
    pub(crate) fn ready(&mut self) -> Result<()> {
        // A library may have said something before.
        while self.line()? != "ready" {}
        Ok(())
    }

    /// Are all answers of a set right?
    pub(crate) fn check(&mut self, set: &str) -> Result<()> {
        let said = self.ask(&format!("check {set}"))?;
        ensure!(said == "ok", "{}: a wrong answer: {said}", self.name);
        Ok(())
    }

    /// Asks for something measured: how much of it was done in a second.
    pub(crate) fn rate(&mut self, question: &str) -> Result<f64> {
        let [count, ns] = self.numbers(question)?;
        Ok(count as f64 / (ns as f64 / 1e9))
    }

    /// Bytes that its structure takes.
    pub(crate) fn bytes(&mut self) -> Result<u64> {
        Ok(self.numbers("bytes")?[0])
    }

    fn numbers(&mut self, question: &str) -> Result<[u64; 2]> {
        let said = self.ask(question)?;
        let mut words = said.split(' ').map(str::parse);
        match (words.next(), words.next()) {
            (Some(Ok(first)), Some(Ok(second))) => Ok([first, second]),
            _ => bail!("{}: {question}: {said}", self.name),
        }
    }

    fn ask(&mut self, question: &str) -> Result<String> {
        writeln!(self.questions, "{question}").with_context(|| format!("{} is gone", self.name))?;
        self.line()
    }

    fn line(&mut self) -> Result<String> {
        let mut line = String::new();
        if self.answers.read_line(&mut line)? == 0 {
            bail!("{} ended: {}", self.name, self.child.wait()?);
        }
        Ok(line.trim_end().to_owned())
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Compiles `dpdk.c`, for this very processor as DPDK's own tools are.
pub(crate) fn dpdk(directory: &Path) -> Result<PathBuf> {
    let flags = |what: &str| -> Result<Vec<String>> {
        let output = Command::new("pkg-config").args([what, "libdpdk"]).output()?;
        ensure!(output.status.success(), "pkg-config libdpdk (package libdpdk-dev)");
        let text = String::from_utf8(output.stdout)?;
        Ok(text.split_ascii_whitespace().map(str::to_owned).collect())
    };
    let (program, source) = (directory.join("lookup-dpdk"), directory.join("lookup-dpdk.c"));
    std::fs::write(&source, include_str!("../../c/dpdk.c"))?;
    let status = Command::new("cc")
        .args(["-O3", "-march=native"])
        .args(flags("--cflags")?)
        .arg("-o")
        .arg(&program)
        .arg(&source)
        .args(flags("--libs")?)
        .status()
        .context("cc (package gcc)")?;
    ensure!(status.success(), "cc: {status}");
    Ok(program)
}

/// Is what `dpdk.c` needs installed?
pub(crate) fn has_dpdk() -> bool {
    let mut command = Command::new("pkg-config");
    command.args(["--exists", "libdpdk"]).status().is_ok_and(|status| status.success())
}

/// Where `scripts/bench` builds the crates' program.
pub(crate) fn crates() -> PathBuf {
    std::env::var_os("RTM_BENCH_RIVALS")
        .map_or_else(|| "bench/rivals/target/release/lookup-rivals".into(), PathBuf::from)
}
