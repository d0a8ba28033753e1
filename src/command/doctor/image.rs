//! An image in a file or directory: an OCI layout, or what `docker save` and `podman save` write. Reads its
//! platforms, what each starts, and its layers; runs and unpacks nothing.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Component, Path, PathBuf};
use std::rc::Rc;

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::layers::{self, Files, Member};
use crate::error::errno;
use crate::tree::Piece;

/// Largest description that is read, in bytes.
const MAX_JSON: u64 = 16 << 20;
/// How deep indexes may lie in indexes.
const MAX_DEPTH: usize = 4;
/// How many images are looked at.
const MAX_IMAGES: usize = 64;

/// One image, for one platform.
#[derive(Debug)]
pub(super) struct Image {
    /// What it is called, where that is told.
    pub(super) name: Option<String>,
    /// `linux/arm64`, as its configuration says.
    pub(super) platform: String,
    /// OCI architecture.
    pub(super) arch: String,
    /// Command line that it starts.
    pub(super) command: Vec<String>,
    pub(super) directory: String,
    pub(super) environment: Vec<(String, String)>,
    /// Whether it is in the file: of an image for many platforms, one may be saved.
    pub(super) here: bool,
    /// Its layers; or what is wrong with one.
    layers: Result<Vec<Piece>, String>,
}

impl Image {
    /// One of which nothing is known but what is wrong with it.
    fn unread(name: Option<&str>, platform: Option<String>, why: String) -> Self {
        Self {
            name: name.map(str::to_owned),
            platform: platform.unwrap_or_else(|| "linux/?".to_owned()),
            arch: String::new(),
            command: Vec::new(),
            directory: "/".to_owned(),
            environment: Vec::new(),
            here: true,
            layers: Err(why),
        }
    }

    /// Its files.
    ///
    /// # Errors
    /// Where a layer is missing or damaged.
    pub(super) fn files(&self) -> Result<Files, String> {
        let mut files = Files::default();
        for (index, layer) in self.layers.as_ref().map_err(Clone::clone)?.iter().enumerate() {
            files
                .add(layer)
                .map_err(|error| format!("layer {} cannot be read: {error}", index + 1))?;
        }
        Ok(files)
    }
}

/// Reads what is at `path`.
///
/// # Errors
/// Where it is no image.
pub(super) fn read(path: &Path) -> Result<Vec<Image>, String> {
    let store = Store::open(path)?;
    let mut images = Vec::new();
    if let Some(index) = store.json::<Index>("index.json") {
        for descriptor in &index.manifests {
            store.follow(descriptor, None, MAX_DEPTH, &mut images);
        }
    }
    if images.is_empty() {
        for saved in store.json::<Vec<Saved>>("manifest.json").unwrap_or_default() {
            images.push(store.saved(&saved));
        }
    }
    images.truncate(MAX_IMAGES);
    match images.is_empty() {
        true if store.is_root() => Err(
            "it holds the files of a root, as `docker export` writes them, and is no image: unpack it (tar -xf), and name that directory with --root"
                .to_owned(),
        ),
        true => Err("it is neither an OCI layout nor what `docker save` writes".to_owned()),
        false => Ok(images),
    }
}

/// `index.json`, and indexes below it.
#[derive(Deserialize)]
struct Index {
    manifests: Vec<Descriptor>,
}

#[derive(Deserialize)]
struct Descriptor {
    digest: String,
    size: Option<u64>,
    platform: Option<Platform>,
    #[serde(default)]
    annotations: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Platform {
    os: String,
    architecture: String,
    variant: Option<String>,
}

impl Platform {
    fn shown(&self) -> String {
        let variant = self.variant.as_deref().filter(|variant| !variant.is_empty());
        let variant = variant.map_or(String::new(), |variant| format!("/{variant}"));
        format!("{}/{}{variant}", self.os, self.architecture)
    }
}

/// A manifest, or an index in an index.
#[derive(Deserialize)]
struct Manifest {
    config: Option<Descriptor>,
    #[serde(default)]
    layers: Vec<Descriptor>,
    manifests: Option<Vec<Descriptor>>,
}

/// An item of `manifest.json`, as `docker save` writes it.
#[derive(Deserialize)]
struct Saved {
    #[serde(rename = "Config")]
    config: String,
    #[serde(rename = "RepoTags")]
    names: Option<Vec<String>>,
    #[serde(rename = "Layers")]
    layers: Vec<String>,
}

#[derive(Deserialize)]
struct Config {
    #[serde(flatten)]
    platform: Platform,
    config: Option<Started>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Started {
    entrypoint: Option<Vec<String>>,
    cmd: Option<Vec<String>>,
    env: Option<Vec<String>>,
    working_dir: Option<String>,
}

/// Where blobs come from.
enum Store {
    Directory(PathBuf),
    Archive(BTreeMap<PathBuf, Member>),
}

impl Store {
    fn open(path: &Path) -> Result<Self, String> {
        if path.is_dir() {
            return Ok(Self::Directory(path.into()));
        }
        path.metadata().map_err(|error| errno(error).desc().to_owned())?;
        let piece = file(path).ok_or("it is no regular file that can be read")?;
        let piece =
            layers::unpack(&piece).map_err(|error| format!("it cannot be unpacked: {error}"))?;
        let members = layers::members(&piece);
        // Errors of a header quote what stands in it, whatever the file is.
        let wrong = |_| "it is no whole tar archive".to_owned();
        members.map(Self::Archive).map_err(wrong)
    }

    fn piece(&self, name: &Path) -> Option<Piece> {
        match self {
            Self::Directory(dir) => {
                let inside = name.components().all(|part| matches!(part, Component::Normal(_)));
                file(&dir.join(name)).filter(|_| inside)
            }
            // Older archives link layers that images share.
            Self::Archive(members) => match members.get(name)? {
                Member::File(piece) => Some(piece.clone()),
                Member::Link(to) => match members.get(to)? {
                    Member::File(piece) => Some(piece.clone()),
                    Member::Link(_) => None,
                },
            },
        }
    }

    /// Whether it holds a root's files, and no image.
    fn is_root(&self) -> bool {
        const DIRS: [&str; 4] = ["etc", "usr", "bin", "lib"];
        let of_root = |path: &Path| DIRS.iter().any(|dir| path.starts_with(dir));
        match self {
            Self::Directory(dir) => dir.join("etc").is_dir() && dir.join("usr").is_dir(),
            Self::Archive(members) => members.keys().any(|path| of_root(path)),
        }
    }

    fn json<T: DeserializeOwned>(&self, name: &str) -> Option<T> {
        let piece = self.piece(Path::new(name)).filter(|piece| piece.len <= MAX_JSON)?;
        serde_json::from_slice(&piece.read(0, piece.len)?).ok()
    }

    /// The images that a descriptor stands for.
    fn follow(
        &self,
        descriptor: &Descriptor,
        name: Option<&str>,
        depth: usize,
        images: &mut Vec<Image>,
    ) {
        let named = ["io.containerd.image.name", "org.opencontainers.image.ref.name"];
        let name = named
            .iter()
            .find_map(|key| descriptor.annotations.get(*key))
            .map(String::as_str)
            .or(name);
        // Statements about an image, not one.
        let about = descriptor.annotations.contains_key("vnd.docker.reference.type");
        if about || depth == 0 || images.len() >= MAX_IMAGES {
            return;
        }
        let platform = descriptor.platform.as_ref().map(Platform::shown);
        let Some(manifest) = self.json::<Manifest>(&blob(&descriptor.digest)) else {
            let why = format!("its manifest {} is not here", descriptor.digest);
            images.push(Image { here: false, ..Image::unread(name, platform, why) });
            return;
        };
        for descriptor in manifest.manifests.iter().flatten() {
            self.follow(descriptor, name, depth - 1, images);
        }
        if let Some(config) = &manifest.config {
            let layers = manifest.layers.iter().map(|layer| self.layer(layer)).collect();
            images.push(self.image(&blob(&config.digest), name, layers));
        }
    }

    /// A layer, if it is here and whole.
    fn layer(&self, descriptor: &Descriptor) -> Result<Piece, String> {
        let digest = &descriptor.digest;
        let piece = self
            .piece(Path::new(&blob(digest)))
            .ok_or(format!("its layer {digest} is not here"))?;
        match descriptor.size.filter(|size| *size != piece.len) {
            Some(size) => Err(format!("its layer {digest} has {} bytes of {size}", piece.len)),
            None => Ok(piece),
        }
    }

    fn saved(&self, saved: &Saved) -> Image {
        let name = saved.names.iter().flatten().next().map(String::as_str);
        let layer = |name: &String| {
            self.piece(Path::new(name)).ok_or_else(|| format!("its layer {name} is not here"))
        };
        self.image(&saved.config, name, saved.layers.iter().map(layer).collect())
    }

    fn image(&self, config: &str, name: Option<&str>, layers: Result<Vec<Piece>, String>) -> Image {
        let Some(Config { platform, config }) = self.json::<Config>(config) else {
            let why = format!("its configuration {config} is not here, or makes no sense");
            return Image::unread(name, None, why);
        };
        let started = config.unwrap_or_default();
        let variable = |text: &String| {
            let (name, value) = text.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        };
        Image {
            name: name.map(str::to_owned),
            platform: platform.shown(),
            arch: platform.architecture,
            command: [started.entrypoint, started.cmd].into_iter().flatten().flatten().collect(),
            directory: started
                .working_dir
                .filter(|dir| !dir.is_empty())
                .unwrap_or_else(|| "/".to_owned()),
            environment: started.env.iter().flatten().filter_map(variable).collect(),
            here: true,
            layers,
        }
    }
}

/// Where a blob lies, by its digest.
fn blob(digest: &str) -> String {
    let (kind, hash) = digest.split_once(':').unwrap_or(("sha256", digest));
    format!("blobs/{kind}/{hash}")
}

fn file(path: &Path) -> Option<Piece> {
    // A pipe is not opened: that would wait for its other end.
    let metadata = std::fs::metadata(path).ok().filter(std::fs::Metadata::is_file)?;
    Some(Piece { file: Rc::new(File::open(path).ok()?), start: 0, len: metadata.len() })
}
