//! Container images without a registry: an OCI layout, written to a tar file that containerd imports.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use ring::digest::{Context, SHA256};
use serde_json::{Value, json};
use thiserror::Error;

/// Why an image could not be made or imported.
#[derive(Debug, Error)]
pub enum ImageError {
    /// A file cannot be read or written.
    #[error("cannot put {path} into the image {image}")]
    File {
        /// The image.
        image: String,
        /// The file.
        path: PathBuf,
        /// The system's reason.
        source: io::Error,
    },
    /// `tar` or `ctr` refused.
    #[error("{program} could not make the image {image}: {why}")]
    Program {
        /// The program.
        program: String,
        /// The image.
        image: String,
        /// What it said.
        why: String,
    },
}

/// Something to put into an image's only layer.
#[derive(Clone, Debug)]
enum Entry {
    Tree(PathBuf),
    File(PathBuf, String),
    Text(String, String),
    Link(String, String),
    Folder(String),
}

/// An image to be made. Its files belong to root; later entries win.
#[derive(Clone, Debug)]
pub struct Image {
    name: String,
    entries: Vec<Entry>,
    entrypoint: Vec<String>,
    environment: Vec<String>,
    user: String,
}

impl Image {
    /// An empty image. A name without a registry is completed as the kubelet does it: `web:1` is
    /// `docker.io/library/web:1`.
    pub fn new(name: &str) -> Self {
        let qualified = name.split_once('/').is_some_and(|(registry, _)| registry.contains('.'));
        let name = if qualified { name.to_owned() } else { format!("docker.io/library/{name}") };
        let environment = vec!["PATH=/usr/local/bin:/usr/bin:/bin".to_owned()];
        Self { name, entries: Vec::new(), entrypoint: Vec::new(), environment, user: "0".to_owned() }
    }

    /// Everything below this folder.
    #[must_use]
    pub fn tree(self, folder: &Path) -> Self {
        self.with(Entry::Tree(folder.to_owned()))
    }

    /// This file at that path, with the mode it has.
    #[must_use]
    pub fn file(self, file: &Path, at: &str) -> Self {
        self.with(Entry::File(file.to_owned(), at.to_owned()))
    }

    /// This text at that path, executable.
    #[must_use]
    pub fn text(self, at: &str, content: &str) -> Self {
        self.with(Entry::Text(at.to_owned(), content.to_owned()))
    }

    /// A symbolic link at that path.
    #[must_use]
    pub fn link(self, target: &str, at: &str) -> Self {
        self.with(Entry::Link(target.to_owned(), at.to_owned()))
    }

    /// An empty folder that everybody may write to.
    #[must_use]
    pub fn folder(self, at: &str) -> Self {
        self.with(Entry::Folder(at.to_owned()))
    }

    /// What the container runs if the pod names no command.
    #[must_use]
    pub fn entrypoint(self, command: &[&str]) -> Self {
        Self { entrypoint: command.iter().map(|&word| word.to_owned()).collect(), ..self }
    }

    /// An environment variable.
    #[must_use]
    pub fn env(mut self, name: &str, value: &str) -> Self {
        self.environment.push(format!("{name}={value}"));
        self
    }

    /// The number of the user it runs as; root if not said.
    #[must_use]
    pub fn user(self, number: u32) -> Self {
        Self { user: number.to_string(), ..self }
    }

    fn with(mut self, entry: Entry) -> Self {
        self.entries.push(entry);
        self
    }

    /// The complete name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes the layout below `folder`, which must be empty, and returns the tar file.
    pub(crate) fn write(&self, folder: &Path) -> Result<PathBuf, ImageError> {
        let (root, layout) = (folder.join("root"), folder.join("layout"));
        let blobs = layout.join("blobs/sha256");
        for path in [&root, &blobs] {
            self.check(path, fs::create_dir_all(path))?;
        }
        for entry in &self.entries {
            self.place(entry, &root)?;
        }
        let layer = folder.join("layer.tar");
        self.tar(&root, &layer)?;
        let digest = self.check(&layer, digest(&layer))?;
        let size = self.check(&layer, fs::metadata(&layer))?.len();
        let blob = blobs.join(&digest);
        self.check(&blob, fs::rename(&layer, &blob))?;
        let config = self.blob(&blobs, "application/vnd.oci.image.config.v1+json", &self.config(&digest))?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": config,
            "layers": [{
                "mediaType": "application/vnd.oci.image.layer.v1.tar",
                "digest": format!("sha256:{digest}"),
                "size": size,
            }],
        });
        let mut descriptor = self.blob(&blobs, "application/vnd.oci.image.manifest.v1+json", &manifest)?;
        descriptor["annotations"] = json!({"io.containerd.image.name": self.name});
        descriptor["platform"] = platform();
        let index = json!({"schemaVersion": 2, "manifests": [descriptor]});
        for (name, content) in [("index.json", index), ("oci-layout", json!({"imageLayoutVersion": "1.0.0"}))] {
            let path = layout.join(name);
            self.check(&path, fs::write(&path, content.to_string()))?;
        }
        let archive = folder.join("image.tar");
        self.tar(&layout, &archive)?;
        Ok(archive)
    }

    fn config(&self, layer: &str) -> Value {
        let mut config = platform();
        config["config"] = json!({"Entrypoint": self.entrypoint, "Env": self.environment, "User": self.user});
        config["rootfs"] = json!({"type": "layers", "diff_ids": [format!("sha256:{layer}")]});
        config
    }

    fn place(&self, entry: &Entry, root: &Path) -> Result<(), ImageError> {
        let inside = |at: &str| -> Result<PathBuf, ImageError> {
            let path = root.join(at.trim_start_matches('/'));
            let folder = path.parent().unwrap_or(root);
            self.check(folder, fs::create_dir_all(folder))?;
            Ok(path)
        };
        match entry {
            Entry::Tree(folder) => {
                let mut from = folder.as_os_str().to_owned();
                from.push("/.");
                self.run(Command::new("cp").arg("--archive").arg(from).arg(root)).map(drop)
            }
            Entry::File(file, at) => self.check(file, fs::copy(file, inside(at)?)).map(drop),
            Entry::Text(at, content) => {
                let path = inside(at)?;
                self.check(&path, fs::write(&path, content))?;
                self.check(&path, fs::set_permissions(&path, PermissionsExt::from_mode(0o755)))
            }
            Entry::Link(target, at) => {
                let path = inside(at)?;
                self.check(&path, symlink(target, &path))
            }
            Entry::Folder(at) => {
                let path = inside(at)?;
                self.check(&path, fs::create_dir_all(&path))?;
                self.check(&path, fs::set_permissions(&path, PermissionsExt::from_mode(0o1777)))
            }
        }
    }

    /// Writes a blob and returns its descriptor.
    fn blob(&self, blobs: &Path, media_type: &str, content: &Value) -> Result<Value, ImageError> {
        let text = content.to_string();
        let mut context = Context::new(&SHA256);
        context.update(text.as_bytes());
        let digest = hexadecimal(context);
        let path = blobs.join(&digest);
        self.check(&path, fs::write(&path, &text))?;
        Ok(json!({"mediaType": media_type, "digest": format!("sha256:{digest}"), "size": text.len()}))
    }

    fn tar(&self, folder: &Path, archive: &Path) -> Result<(), ImageError> {
        let mut command = Command::new("tar");
        command.args(["--create", "--owner=0", "--group=0", "--numeric-owner", "--sort=name", "--mtime=@0", "--file"]);
        self.run(command.arg(archive).arg("--directory").arg(folder).arg("."))
    }

    pub(crate) fn run(&self, command: &mut Command) -> Result<(), ImageError> {
        let program = command.get_program().to_string_lossy().into_owned();
        let failed = |why| ImageError::Program { program, image: self.name.clone(), why };
        match command.stdin(Stdio::null()).output() {
            Ok(output) if output.status.success() => Ok(()),
            Ok(output) => Err(failed(String::from_utf8_lossy(&output.stderr).trim().to_owned())),
            Err(reason) => Err(failed(reason.to_string())),
        }
    }

    pub(crate) fn check<T>(&self, path: &Path, outcome: io::Result<T>) -> Result<T, ImageError> {
        outcome.map_err(|source| ImageError::File { image: self.name.clone(), path: path.to_owned(), source })
    }
}

fn platform() -> Value {
    let architecture = if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" };
    json!({"architecture": architecture, "os": "linux"})
}

fn digest(path: &Path) -> io::Result<String> {
    let mut context = Context::new(&SHA256);
    let mut file = File::open(path)?;
    let mut buffer = vec![0; 1 << 16];
    loop {
        let read = io::Read::read(&mut file, &mut buffer)?;
        match buffer.get(..read) {
            Some(part) if read > 0 => context.update(part),
            _ => return Ok(hexadecimal(context)),
        }
    }
}

fn hexadecimal(context: Context) -> String {
    context.finish().as_ref().iter().fold(String::new(), |text, byte| format!("{text}{byte:02x}"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::process::Command;

    use serde_json::Value;

    use super::{Image, digest};

    #[test]
    fn every_blob_is_what_its_descriptor_says() {
        let folder = tempfile::tempdir().unwrap();
        let image =
            Image::new("tool:2").text("/bin/run", "#!/bin/sh\n").link("run", "/bin/again").folder("/data").user(7);
        let archive = image.entrypoint(&["/bin/run", "x"]).env("A", "b").write(folder.path()).unwrap();
        let out = folder.path().join("out");
        fs::create_dir(&out).unwrap();
        let unpack = |archive: &std::path::Path| {
            let status = Command::new("tar").arg("-xf").arg(archive).arg("-C").arg(&out).status().unwrap();
            assert!(status.success());
        };
        unpack(&archive);
        let json = |path: &std::path::Path| -> Value { serde_json::from_slice(&fs::read(path).unwrap()).unwrap() };
        let blob = |descriptor: &Value| {
            let hash = descriptor["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
            let path = out.join("blobs/sha256").join(hash);
            assert_eq!(digest(&path).unwrap(), hash);
            assert_eq!(fs::metadata(&path).unwrap().len(), descriptor["size"].as_u64().unwrap());
            path
        };
        let index = json(&out.join("index.json"));
        let descriptor = &index["manifests"][0];
        assert_eq!(descriptor["annotations"]["io.containerd.image.name"], "docker.io/library/tool:2");
        let manifest = json(&blob(descriptor));
        let config = json(&blob(&manifest["config"]));
        assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/bin/run", "x"]));
        assert_eq!(config["config"]["User"], "7");
        assert_eq!(config["rootfs"]["diff_ids"][0], manifest["layers"][0]["digest"]);
        unpack(&blob(&manifest["layers"][0]));
        assert_eq!(fs::read_to_string(out.join("bin/again")).unwrap(), "#!/bin/sh\n");
    }

    #[test]
    fn a_name_is_completed_only_if_it_names_no_registry() {
        assert_eq!(Image::new("interlock.test/a/b:1").name(), "interlock.test/a/b:1");
        assert_eq!(Image::new("a/b:1").name(), "docker.io/library/a/b:1");
    }
}
