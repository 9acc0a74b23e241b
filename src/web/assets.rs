//! Scripts and styles, built into the binary, served under names that hold their hash.

use axum::extract::Path;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

struct Asset {
    name: &'static str,
    hash: &'static str,
    bytes: &'static [u8],
}

const ASSETS: &[Asset] = include!(concat!(env!("OUT_DIR"), "/assets.rs"));

/// The path of an asset, which changes with its content; `None` when the build had no Node to make it.
pub(super) fn path(name: &str) -> Option<String> {
    let asset = ASSETS.iter().find(|asset| asset.name == name)?;
    let (stem, ending) = name.rsplit_once('.')?;
    Some(format!("/assets/{stem}.{}.{ending}", asset.hash))
}

pub(super) async fn serve(Path(file): Path<String>) -> Response {
    let found = ASSETS.iter().find(|asset| path(asset.name).is_some_and(|path| path.ends_with(&format!("/{file}"))));
    let Some(asset) = found else { return StatusCode::NOT_FOUND.into_response() };
    let kind = match asset.name.rsplit_once('.').map(|(_, ending)| ending) {
        Some("css") => "text/css; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        _ => "application/octet-stream",
    };
    let headers = [(header::CONTENT_TYPE, kind), (header::CACHE_CONTROL, "public, max-age=31536000, immutable")];
    (headers, asset.bytes).into_response()
}
