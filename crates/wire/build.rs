//! Compiles the protocol with protox, so that no protoc is needed.

use std::{env, error::Error, fs, path::PathBuf};

use prost::Message;

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let files = ["common", "matter", "query", "ledger", "partner", "delivery", "document", "request"]
        .map(|name| root.join(format!("airut/v1/{name}.proto")));
    let record = root.join("airut/log/v1/record.proto");
    let descriptors = protox::compile(files.iter().chain([&record]), [&root])?;
    let out = PathBuf::from(env::var("OUT_DIR")?);
    fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    // A record's bodies are opened together: each is then a part of what was opened, not a copy.
    tonic_prost_build::configure()
        .bytes(".airut.log.v1.MessageBodies.messages")
        .bytes(".airut.v1.SendDocumentRequest.chunk")
        .bytes(".airut.v1.FetchDocumentResponse.chunk")
        .compile_fds(descriptors)?;
    Ok(())
}
