//! The flags of the commands about the program itself: `n2n info`, `n2n completions`, `n2n man`.

use std::path::PathBuf;

use clap::Args;

use super::device::Processor;

/// `n2n info`
#[derive(Debug, Args)]
pub struct Info {
    /// A weight file, or the name of a shipped model
    #[arg(long, value_name = "MODEL")]
    pub model_path: Option<PathBuf>,
    /// Where the network would compute.
    #[command(flatten)]
    pub processor: Processor,
}

/// `n2n completions`
#[derive(Debug, Args)]
#[command(
    after_help = "bash: n2n completions bash > ~/.local/share/bash-completion/completions/n2n\n\
                  zsh:  n2n completions zsh > DIR/_n2n, where DIR is in $fpath\n\
                  fish: n2n completions fish > ~/.config/fish/completions/n2n.fish"
)]
pub struct Completions {
    /// Shell to print completions for
    #[arg(value_enum)]
    pub shell: clap_complete::Shell,
}

/// `n2n man`
#[derive(Debug, Args)]
pub struct Man {
    /// Folder for the manual pages of the program and of every command, such as n2n.1 and n2n-train.1
    #[arg(long, value_name = "DIR")]
    pub save_dir: Option<PathBuf>,
}
