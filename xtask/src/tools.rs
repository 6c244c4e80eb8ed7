//! `cargo xtask tools`: the programs of the control plane.

use clap::Subcommand;
use interlock_cluster::{Prometheus, Tool, Tools};

#[derive(Subcommand)]
pub enum Command {
    /// Build what is neither in `KUBEBUILDER_ASSETS` nor in the cache, and print where everything lies
    Build,
    /// Find Prometheus, or unpack its Debian package into the cache, and print where it lies
    Prometheus,
}

pub fn run(command: &Command) -> Result<(), Box<dyn std::error::Error>> {
    match command {
        Command::Build => {
            let tools = Tools::ensure()?;
            for tool in Tool::CONTROL_PLANE {
                println!("{}", tools.path(tool).display());
            }
            Ok(())
        }
        Command::Prometheus => {
            println!("{}", Prometheus::ensure()?.server.display());
            Ok(())
        }
    }
}
