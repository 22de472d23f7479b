//! Publishing a pack in a place that has no lock.
//!
//! Nothing that others may see is ever written over: a pack lies in a folder named by what it holds, and nobody puts
//! anything into one that is not empty. What is there and unnamed may be about to be deleted by whoever has taken its
//! version away, so it is left alone; [`Hub::verify`] tells of it. Two who put the same pack at once put the same bytes.

use super::{
    Hub, HubConfig, HubStorage, NewPack, Published, Publisher,
    change::Step,
    names,
    publish::{enter, files},
    storage::Content,
};
use crate::{
    error::{HubError, Result},
    registry::{Added, Registry, VersionEntry},
};

/// So often can the publishing of one pack have been broken off.
const FOLDERS_MAX: u32 = 100;

/// A pack on its way to the hub.
struct Publication<'a> {
    pack: &'a NewPack<'a>,
    names: &'a [String],
    contents: Vec<Content>,
    /// Where it was put, or was about to be.
    folder: Option<String>,
    /// What the registry is to say of it, once it is there.
    entry: Option<VersionEntry>,
    /// What was put is of no use.
    in_vain: bool,
}

impl<S: HubStorage> Hub<S> {
    /// Publishes a pack. Killed at any moment, at most a file that nothing refers to is left.
    pub(super) fn add_unlocked(
        &self,
        pack: &NewPack<'_>,
        names: &[String],
        publisher: &Publisher<'_>,
    ) -> Result<Published> {
        let config = self.config()?;
        let contents = files(pack).map(|file| self.content_of(file)).collect::<Result<_>>()?;
        let (folder, entry, in_vain) = (None, None, false);
        let mut publication = Publication { pack, names, contents, folder, entry, in_vain };
        let published = self.change(&config, publisher, |registry| {
            publication.in_vain = publication.folder.is_some();
            let step = self.step(&mut publication, registry, &config, publisher)?;
            publication.in_vain &= matches!(step, Step::Keep(_));
            Ok(step)
        });
        if publication.in_vain {
            // the first error is the one to tell, and what stays is no harm
            let _ = self.withdraw(&publication, &config);
        }
        let published = published?;
        if published.added == Added::New {
            self.make_sure(&publication)?;
        }
        Ok(published)
    }

    fn step(
        &self,
        publication: &mut Publication<'_>,
        registry: &mut Registry,
        config: &HubConfig,
        publisher: &Publisher<'_>,
    ) -> Result<Step<Published>> {
        let pack = publication.pack;
        let sha256 = publication.contents.first().map(|content| content.sha256);
        if let Some(mut there) = self.already_there(registry, pack, sha256)? {
            // a store may have taken a change and lost its answer
            if publication.entry.as_ref().is_some_and(|own| own.url == there.entry.url) {
                there.added = Added::New;
            }
            return Ok(Step::Keep(there));
        }
        let entry = match &publication.entry {
            Some(entry) => entry.clone(),
            None => self.put_anew(publication, config, publisher)?,
        };
        publication.entry = Some(entry.clone());
        enter(registry, pack, entry).map(Step::Publish)
    }

    /// Puts the files of a pack where nothing is.
    fn put_anew(
        &self,
        publication: &mut Publication<'_>,
        config: &HubConfig,
        publisher: &Publisher<'_>,
    ) -> Result<VersionEntry> {
        let folder = self.empty_folder(publication)?;
        publication.folder = Some(folder.clone());
        publication.in_vain = true;
        let entry = self.put(publication.pack, &folder, publication.names, config, publisher.now)?;
        let put = entry.sha256.into_iter().chain(entry.sidecars().iter().map(|sidecar| sidecar.sha256));
        if put.eq(publication.contents.iter().map(|content| content.sha256)) {
            return Ok(entry);
        }
        Err(HubError::invalid(format!("{} was changed meanwhile", publication.pack.file.display())))
    }

    fn empty_folder(&self, publication: &Publication<'_>) -> Result<String> {
        let package = publication.pack.package;
        for attempt in 1..=FOLDERS_MAX {
            let folder = names::folder_of_content(package, &publication.contents, attempt);
            if self.storage.list(&format!("{folder}/"))?.is_empty() {
                return Ok(folder);
            }
        }
        let message =
            format!("{FOLDERS_MAX} attempts to publish this pack of {package} have left files behind");
        Err(HubError::AlreadyExists(message))
    }

    /// Deletes what was put and no entry refers to.
    fn withdraw(&self, publication: &Publication<'_>, config: &HubConfig) -> Result<()> {
        let referenced = names::referenced(&self.registry()?, config);
        let put = publication.files().map(|(name, _)| name);
        put.filter(|name| !referenced.contains(name)).try_for_each(|name| self.storage.delete(&name))
    }

    /// Whoever has published the same pack at the same time, and taken it away since, has deleted it.
    fn make_sure(&self, publication: &Publication<'_>) -> Result<()> {
        for ((name, content), file) in publication.files().zip(files(publication.pack)) {
            if self.storage.size(&name)? != Some(content.size_bytes) {
                self.storage.put_file(&name, file)?;
            }
        }
        Ok(())
    }
}

impl Publication<'_> {
    /// The files here and what they hold; none before they have a place.
    fn files(&self) -> impl Iterator<Item = (String, Content)> {
        let place = |folder: &String| {
            let names = self.names.iter().zip(&self.contents);
            names.map(|(name, content)| (format!("{folder}/{name}"), *content)).collect::<Vec<_>>()
        };
        self.folder.as_ref().map(place).unwrap_or_default().into_iter()
    }
}
