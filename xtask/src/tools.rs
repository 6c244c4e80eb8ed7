//! `cargo xtask tools`: the programs of the control plane.

use clap::Subcommand;
use interlock_cluster::{Tool, Tools, ToolsError};

#[derive(Subcommand)]
pub enum Command {
    /// Build what is neither in `KUBEBUILDER_ASSETS` nor in the cache, and print where everything lies
    Build,
}

pub fn run(command: &Command) -> Result<(), ToolsError> {
    match command {
        Command::Build => {
            let tools = Tools::ensure()?;
            for tool in Tool::ALL {
                println!("{}", tools.path(tool).display());
            }
            Ok(())
        }
    }
}
