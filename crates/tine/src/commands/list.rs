//! `tine list`

use crate::{failure::Outcome, output::Output, progress::Length, table::or_dash};
use tine_model::{BoxSummary, ListBoxes, ProjectName, Service, Tag};

/// What `list` takes.
#[derive(Debug, clap::Args)]
#[command(after_help = "Examples:\n  tine list\n  tine list -a -t team=a")]
pub struct Args {
    /// Boxes of every project, as PROJECT:BOX
    #[arg(short, long)]
    pub all: bool,
    /// Only boxes with this mark; again: with all of them
    #[arg(short, long = "tag", value_name = "KEY=VALUE")]
    pub tags: Vec<Tag>,
}

/// Prints the boxes of one project or of all.
pub fn run(service: &dyn Service, project: &ProjectName, args: &Args, out: &mut Output) -> Outcome {
    let project = (!args.all).then(|| project.clone());
    let boxes =
        service.list_boxes(&ListBoxes { project, tags: args.tags.clone() }, &out.progress(Length::Short))?;
    let rows: Vec<Vec<String>> = boxes.iter().map(|b| row(b, args.all)).collect();
    out.rows(&boxes, &["NAME", "KIND", "STATUS", "BASE", "CREATED"], &rows)?;
    Ok(0)
}

fn row(summary: &BoxSummary, with_project: bool) -> Vec<String> {
    let name = &summary.name;
    vec![
        if with_project { format!("{}:{}", name.project, name.name) } else { name.name.to_string() },
        summary.kind.to_string(),
        summary.status.to_string(),
        or_dash(summary.base.as_ref()),
        summary.created_at.to_string(),
    ]
}
