//! A hub that can be changed: one in a folder of this host, or in a bucket.

use crate::{
    LocalEngine,
    bucket::{BucketStorage, Moved},
    hub::Place,
};
use tine_hub::{
    Hub, HubConfig, HubFolder, HubReport, HubUrl, KeyStore, LocalStorage, NewPack, Published, Publisher,
};
use tine_model::{PackageRef, Reporter, Result, Timestamp};
use tine_store::Pool;

/// A hub and the place it is kept in.
pub enum Kept<'r> {
    Folder(HubFolder<'r>),
    Bucket(Hub<BucketStorage<'r>>),
}

impl<'r> Kept<'r> {
    /// Makes a hub.
    pub fn init(
        engine: &LocalEngine,
        pool: &Pool,
        place: Place,
        config: HubConfig,
        (publisher, reporter): (&Publisher<'_>, &'r dyn Reporter),
    ) -> Result<Self> {
        Ok(match place {
            Place::Folder(folder) => Self::Folder(HubFolder::init(&folder, config, publisher)?),
            Place::Bucket(hub) => {
                Self::Bucket(Hub::init_on(storage(engine, pool, &hub, reporter)?, config, publisher)?)
            }
        })
    }

    /// The hub that is in a place.
    pub fn open(engine: &LocalEngine, pool: &Pool, place: Place, reporter: &'r dyn Reporter) -> Result<Self> {
        Ok(match place {
            Place::Folder(folder) => {
                Self::Folder(Hub::open_on(LocalStorage::new(folder).reporting(reporter))?)
            }
            Place::Bucket(hub) => Self::Bucket(Hub::open_on(storage(engine, pool, &hub, reporter)?)?),
        })
    }

    /// As [`Hub::add`], with what went over the network; none where nothing does.
    pub fn add(&self, pack: &NewPack<'_>, publisher: &Publisher<'_>) -> Result<(Published, Option<Moved>)> {
        Ok(match self {
            Self::Folder(hub) => (hub.add(pack, publisher)?, None),
            Self::Bucket(hub) => (hub.add(pack, publisher)?, Some(hub.storage().moved())),
        })
    }

    /// As [`Hub::remove`].
    pub fn remove(&self, package: &PackageRef, publisher: &Publisher<'_>) -> Result<()> {
        let (name, version) = (&package.package, package.version.as_ref());
        let removed = match self {
            Self::Folder(hub) => hub.remove(name, version, publisher),
            Self::Bucket(hub) => hub.remove(name, version, publisher),
        };
        Ok(removed?)
    }

    /// As [`Hub::verify`].
    pub fn verify(&self, keys: &KeyStore) -> Result<HubReport> {
        let now = Timestamp::now();
        Ok(match self {
            Self::Folder(hub) => hub.verify(Some(keys), now)?,
            Self::Bucket(hub) => hub.verify(Some(keys), now)?,
        })
    }
}

fn storage<'r>(
    engine: &LocalEngine,
    pool: &Pool,
    hub: &HubUrl,
    reporter: &'r dyn Reporter,
) -> Result<BucketStorage<'r>> {
    BucketStorage::new(engine.remote()?, hub, pool.uploads_dir(), reporter)
}
