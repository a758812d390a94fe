//! Style sheet, scripts and icon. Their addresses carry a digest of what they hold, so browsers keep them for good.

use std::sync::LazyLock;

use aws_lc_rs::digest::{SHA256, digest};
use axum::{
    extract::Path,
    response::{IntoResponse, Response},
};
use http::{
    StatusCode,
    header::{CACHE_CONTROL, CONTENT_TYPE},
};

struct Asset {
    name: &'static str,
    media_type: &'static str,
    content: &'static [u8],
}

const ASSETS: [Asset; 4] = [
    Asset { name: "desk.css", media_type: "text/css; charset=utf-8", content: include_bytes!("../../assets/desk.css") },
    Asset {
        name: "desk.js",
        media_type: "text/javascript; charset=utf-8",
        content: include_bytes!("../../assets/desk.js"),
    },
    Asset {
        name: "htmx.js",
        media_type: "text/javascript; charset=utf-8",
        content: include_bytes!("../../assets/htmx-2.0.11.min.js"),
    },
    Asset { name: "icon.svg", media_type: "image/svg+xml", content: include_bytes!("../../assets/icon.svg") },
];

static PATHS: LazyLock<[String; ASSETS.len()]> = LazyLock::new(|| {
    ASSETS.each_ref().map(|asset| {
        let digest = digest(&SHA256, asset.content);
        format!("/assets/{}/{}", hex::encode(&digest.as_ref()[..8]), asset.name)
    })
});

/// The address of the asset of this name.
pub(crate) fn path(name: &str) -> String {
    let found = ASSETS.iter().zip(PATHS.iter()).find(|(asset, _)| asset.name == name);
    found.map_or_else(|| format!("/assets/none/{name}"), |(_, path)| path.clone())
}

/// Gives one, under the address of what it holds now and no other.
pub(crate) async fn get(Path((digest, name)): Path<(String, String)>) -> Response {
    let asked = format!("/assets/{digest}/{name}");
    match ASSETS.iter().zip(PATHS.iter()).find(|(_, path)| **path == asked) {
        Some((asset, _)) => {
            let headers = [(CONTENT_TYPE, asset.media_type), (CACHE_CONTROL, "public, max-age=31536000, immutable")];
            (headers, asset.content).into_response()
        }
        None => StatusCode::NOT_FOUND.into_response(),
    }
}
