//! Event files for `TensorBoard`. A file is a sequence of records: the length of the data (64 bits), the checksum of
//! the length, the data, the checksum of the data. Checksums are CRC-32C, rotated and offset as in TensorFlow
//! (`tensorflow/core/lib/io/record_writer.h`). The data are `Event` messages of `tensorflow/core/util/event.proto`.

use std::time::{SystemTime, UNIX_EPOCH};

use crc::{CRC_32_ISCSI, Crc};
use prost::Message;

const CRC_32C: Crc<u32> = Crc::<u32>::new(&CRC_32_ISCSI);

/// A value shown at a step.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A point of the named curve.
    Scalar(&'static str, f64),
    /// A picture.
    Image {
        /// Its name.
        name: &'static str,
        /// Height in pixels.
        height: usize,
        /// Width in pixels.
        width: usize,
        /// Channels: 1 or 3.
        channels: usize,
        /// The content of its PNG file.
        png: Vec<u8>,
    },
}

/// The length of the complete records at the start of a file.
pub fn complete(bytes: &[u8]) -> usize {
    /// The length before the data, with its checksum; and the checksum after them.
    const AROUND: u64 = 8 + 4 + 4;
    let mut rest = bytes;
    while let Some(length) = rest.first_chunk()
        && let Some(record) = u64::from_le_bytes(*length).checked_add(AROUND)
        && record <= rest.len() as u64
    {
        rest = &rest[record as usize..];
    }
    bytes.len() - rest.len()
}

/// The first record of a file.
pub fn header() -> Vec<u8> {
    record(&header_event())
}

fn header_event() -> Event {
    Event {
        wall_time: now(),
        file_version: Some("brain.Event:2".into()),
        ..Event::default()
    }
}

/// The record of the values of a step.
pub fn values(step: u64, values: impl IntoIterator<Item = Value>) -> Vec<u8> {
    record(&event(now(), step, values))
}

fn event(wall_time: f64, step: u64, values: impl IntoIterator<Item = Value>) -> Event {
    let value = |value| match value {
        Value::Scalar(name, value) => SummaryValue {
            tag: name.into(),
            simple_value: Some(value as f32),
            image: None,
        },
        Value::Image {
            name,
            height,
            width,
            channels,
            png,
        } => SummaryValue {
            tag: name.into(),
            simple_value: None,
            image: Some(Image {
                height: height as i32,
                width: width as i32,
                colorspace: channels as i32,
                encoded_image_string: png,
            }),
        },
    };
    Event {
        wall_time,
        step: step as i64,
        file_version: None,
        summary: Some(Summary {
            value: values.into_iter().map(value).collect(),
        }),
    }
}

fn record(event: &Event) -> Vec<u8> {
    let data = event.encode_to_vec();
    let length = (data.len() as u64).to_le_bytes();
    let mut record = length.to_vec();
    record.extend(masked_checksum(&length));
    record.extend(&data);
    record.extend(masked_checksum(&data));
    record
}

fn masked_checksum(data: &[u8]) -> [u8; 4] {
    let checksum = CRC_32C.checksum(data);
    (checksum.rotate_right(15).wrapping_add(0xa282_ead8)).to_le_bytes()
}

fn now() -> f64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0.0, |since| since.as_secs_f64())
}

#[derive(Clone, PartialEq, Message)]
struct Event {
    #[prost(double, tag = "1")]
    wall_time: f64,
    #[prost(int64, tag = "2")]
    step: i64,
    #[prost(string, optional, tag = "3")]
    file_version: Option<String>,
    #[prost(message, optional, tag = "5")]
    summary: Option<Summary>,
}

#[derive(Clone, PartialEq, Message)]
struct Summary {
    #[prost(message, repeated, tag = "1")]
    value: Vec<SummaryValue>,
}

#[derive(Clone, PartialEq, Message)]
struct SummaryValue {
    #[prost(string, tag = "1")]
    tag: String,
    #[prost(float, optional, tag = "2")]
    simple_value: Option<f32>,
    #[prost(message, optional, tag = "4")]
    image: Option<Image>,
}

#[derive(Clone, PartialEq, Message)]
struct Image {
    #[prost(int32, tag = "1")]
    height: i32,
    #[prost(int32, tag = "2")]
    width: i32,
    #[prost(int32, tag = "3")]
    colorspace: i32,
    #[prost(bytes = "vec", tag = "4")]
    encoded_image_string: Vec<u8>,
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Written by `PyPI`'s tensorboard: `tests/golden/tensorboard_events.py`.
    #[test]
    fn records_are_those_of_tensorboard() {
        let expected = include_bytes!("../../../../tests/golden/tensorboard/events.bin");
        let shown = [
            Value::Scalar("loss/loss1", 0.25),
            Value::Scalar("schedule/learning_rate", 3e-4),
            Value::Image {
                name: "denoised",
                height: 2,
                width: 3,
                channels: 1,
                png: b"\x89PNG".to_vec(),
            },
        ];
        let mut written = record(&Event {
            wall_time: 1_700_000_000.5,
            ..header_event()
        });
        written.extend(record(&event(1_700_000_001.25, 300, shown)));
        assert_eq!(written, expected);
    }
}
