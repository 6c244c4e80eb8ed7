//! The `interlock` binary.
mod install;
mod run;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

#[derive(Parser)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Install(install::InstallArgs),
    Run(run::RunArgs),
}

#[tokio::main]
async fn main() -> ExitCode {
    interlock_controller::certs::install_crypto_provider();
    let cli = Cli::parse();
    match cli.command {
        Command::Install(args) => {
            let client = if args.needs_cluster() { kube::Client::try_default().await.ok() } else { None };
            #[allow(clippy::disallowed_methods)]
            let now = jiff::Timestamp::now();
            match install::execute(&args, client, now).await {
                Ok(code) => code,
                Err(e) => {
                    eprintln!("error: {e}");
                    ExitCode::FAILURE
                }
            }
        }
        Command::Run(args) => {
            let config = match kube::Config::infer().await {
                Ok(c) => c,
                Err(e) => {
                    eprintln!("error: {e}");
                    return ExitCode::FAILURE;
                }
            };
            match run::execute(&args, config).await {
                Ok(()) => ExitCode::SUCCESS,
                Err(e) => {
                    eprintln!("error: {e}");
                    ExitCode::FAILURE
                }
            }
        }
    }
}
