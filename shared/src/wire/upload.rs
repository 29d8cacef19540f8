//! The answers to an upload and a delete.

use serde::{Deserialize, Serialize};

/// The answer to a PUT or POST of a needle (201).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct UploadResponse {
    /// The file's name; empty when it has none.
    #[serde(default)]
    pub name: String,
    /// Its length in bytes, before compression.
    #[serde(default)]
    pub size: u64,
    /// CRC-32C of the stored bytes, 8 hex digits.
    #[serde(default, rename = "eTag")]
    pub etag: String,
    /// Its type, if stored.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub mime: String,
    /// Base64 MD5 of the bytes, if the client sent it.
    #[serde(default, rename = "contentMd5", skip_serializing_if = "String::is_empty")]
    pub content_md5: String,
}

/// The answer of `/submit` (201).
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SubmitResponse {
    /// CRC-32C of the stored bytes, 8 hex digits.
    #[serde(rename = "eTag")]
    pub etag: String,
    /// The needle's fid.
    pub fid: String,
    /// The file's name.
    #[serde(rename = "fileName")]
    pub file_name: String,
    /// `host:port/fid`, without a scheme.
    #[serde(rename = "fileUrl")]
    pub file_url: String,
    /// Its length in bytes, before compression.
    pub size: u64,
}

/// The answer to a DELETE (202).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DeleteResponse {
    /// Bytes that the needle took in its volume, metadata included; never 0.
    pub size: u64,
}
