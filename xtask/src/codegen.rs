//! `cargo xtask codegen`: files that are made from the types.

use std::fs;

use crate::shell::{self, ShellError};

/// What is made.
#[derive(clap::Args, Debug)]
pub struct Arguments {
    /// Write nothing; fail if a file is stale.
    #[arg(long)]
    check: bool,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum CodegenError {
    /// A program failed.
    #[error(transparent)]
    Shell(#[from] ShellError),
    /// A file could not be written.
    #[error("{path} could not be written")]
    Write {
        /// Which file.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A file is stale.
    #[error("{0} is stale: run `cargo xtask codegen`")]
    Stale(&'static str),
}

/// The manifests of an installation without its keys, for kustomize and for reading.
const MANIFESTS: &str = "manifests/base/interlock.yaml";

/// Writes or checks the generated files.
pub fn run(arguments: &Arguments) -> Result<(), CodegenError> {
    shell::build_with_example("codegen")?;
    let mut codegen = shell::example("codegen");
    codegen.args(arguments.check.then_some("--check"));
    shell::run(&mut codegen)?;
    let text = shell::output(shell::interlock().args(["install", "--without-keys"]))?;
    let path = shell::root().join(MANIFESTS);
    if fs::read_to_string(&path).ok().as_deref() == Some(&text) {
        return Ok(());
    }
    if arguments.check {
        return Err(CodegenError::Stale(MANIFESTS));
    }
    fs::write(&path, text).map_err(|source| CodegenError::Write { path: MANIFESTS.to_owned(), source })?;
    println!("wrote {MANIFESTS}");
    Ok(())
}
