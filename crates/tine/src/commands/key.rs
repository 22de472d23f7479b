//! `tine key …`: signing keys, and what is asked of signatures.

use super::pack::password;
use crate::{
    failure::{Outcome, local_error},
    output::Output,
    table::or_dash,
};
use std::{fs::File, io::Read, path::Path};
use tine_model::{Error, ErrorCode, KeyInfo, KeyName, KeyRef, Result, Service, TrustPolicy, TrustRule};

/// A public key's file is shorter.
const PUBLIC_MAX: u64 = 4096;

/// The commands of `key`.
#[derive(Debug, clap::Subcommand)]
pub enum Command {
    /// Make a key pair; TINE_KEY_PASSWORD encrypts its secret half
    Generate(GenerateArgs),
    /// List keys
    #[command(alias = "ls")]
    List(ListArgs),
    /// Trust a public key
    Trust(TrustArgs),
    /// Trust a key no more, for good
    Revoke(RevokeArgs),
    /// Show or set what is asked of signatures: require, warn or off
    Policy(PolicyArgs),
}

/// What `key generate` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine key generate release")]
pub struct GenerateArgs {
    /// What it is called
    pub name: KeyName,
}

/// What `key list` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine key list")]
pub struct ListArgs {}

/// What `key trust` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine key trust release release.pub\n  tine key trust release RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3"
)]
pub struct TrustArgs {
    /// What it is called here
    pub name: KeyName,
    /// The public key: a minisign .pub file, or its line of base64
    #[arg(value_name = "KEY")]
    pub key: String,
}

/// What `key revoke` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  tine key revoke release --yes")]
pub struct RevokeArgs {
    /// Its name or id
    #[arg(value_name = "KEY")]
    pub key: KeyRef,
}

/// What `key policy` takes.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Examples:\n  tine key policy\n  tine key policy require --hub https://hub.example.org\n  tine key policy warn"
)]
pub struct PolicyArgs {
    /// What is asked from now on
    pub policy: Option<TrustPolicy>,
    /// Of what lies below this URL [default: of everything that no other rule is for]
    #[arg(long, value_name = "URL")]
    pub hub: Option<String>,
    /// Take the rule for the URL away
    #[arg(long, requires = "hub", conflicts_with = "policy")]
    pub unset: bool,
}

/// Runs a command of `key`.
pub fn run(service: &dyn Service, command: &Command, out: &mut Output) -> Outcome {
    match command {
        Command::Generate(args) => {
            let password = password();
            let key = service.generate_key(&args.name, password.as_deref())?;
            out.name(&key, &key.public_key)?;
            if password.is_none() {
                out.say("its secret half is not encrypted: whoever is root can sign with it");
            }
            Ok(0)
        }
        Command::List(_) => list(service, out),
        Command::Trust(args) => {
            let key = service.trust_key(&args.name, &public_key(&args.key)?)?;
            out.name(&key, &key.name)?;
            Ok(0)
        }
        Command::Revoke(args) => {
            out.permission.get(&format!("Trust the key {} no more, for good?", args.key))?;
            let key = service.revoke_key(&args.key)?;
            out.name(&key, &key.name)?;
            Ok(0)
        }
        Command::Policy(args) => policy(service, args, out),
    }
}

/// The key itself, or what is in its file.
fn public_key(text: &str) -> Result<String> {
    let path = Path::new(text);
    if !path.is_file() {
        return Ok(text.to_owned());
    }
    let file = File::open(path).map_err(|e| local_error("opening", path, &e))?;
    let mut content = String::new();
    file.take(PUBLIC_MAX + 1).read_to_string(&mut content).map_err(|e| local_error("reading", path, &e))?;
    if content.len() as u64 > PUBLIC_MAX {
        let message = format!("{} is too large for a public key", path.display());
        return Err(Error::new(ErrorCode::TooLarge, message));
    }
    Ok(content)
}

fn list(service: &dyn Service, out: &mut Output) -> Outcome {
    let keys = service.list_keys()?;
    let rows: Vec<Vec<String>> = keys.iter().map(row).collect();
    out.rows(&keys, &["NAME", "ID", "SIGNS", "ADDED", "REVOKED", "PUBLIC KEY"], &rows)?;
    Ok(0)
}

fn row(key: &KeyInfo) -> Vec<String> {
    vec![
        key.name.to_string(),
        key.key_id.to_string(),
        if key.can_sign { "yes" } else { "—" }.to_owned(),
        key.added_at.to_string(),
        or_dash(key.revoked_at),
        key.public_key.clone(),
    ]
}

fn policy(service: &dyn Service, args: &PolicyArgs, out: &mut Output) -> Outcome {
    if args.policy.is_some() || args.unset {
        service.set_trust_rule(args.hub.as_deref(), args.policy)?;
    }
    let rules = service.trust_rules()?;
    let rows: Vec<Vec<String>> = rules.iter().map(rule_row).collect();
    out.rows(&rules, &["HUB", "POLICY"], &rows)?;
    Ok(0)
}

fn rule_row(rule: &TrustRule) -> Vec<String> {
    vec![rule.hub.clone().unwrap_or_else(|| "everything else".to_owned()), rule.policy.to_string()]
}
