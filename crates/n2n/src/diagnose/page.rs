//! A diagnosis as a self-contained HTML page: sentences, curves and pictures in one file.

use std::fmt::Write;

use super::{CORRELATION, Diagnosis, Finding, Frame, LAGS, Severity, Transfer, planes};
use crate::error::Result;
use crate::html::{self, Chart, escaped};
use crate::image::{Depth, Image};
use crate::words::counted;

/// Side length of the part of an image that is shown, in pixels.
const SHOWN: usize = 256;
/// Side length of one lag in the picture of the autocorrelation, in pixels.
const CELL: usize = 16;

/// Advice on a finding, in the caller's words.
pub type Remedy<'a> = &'a dyn Fn(&Finding) -> Option<String>;

/// The diagnosis as an HTML page. `title` describes the images; `frames` are the images that were diagnosed; `remedy`
/// gives advice on a finding.
pub fn page(
    title: &str,
    diagnosis: &Diagnosis,
    frames: &[Frame],
    remedy: Remedy,
) -> Result<String> {
    let mut body = format!(
        "<header><h1>{}</h1><p>{} of {} · {}</p></header>",
        escaped(title),
        counted(diagnosis.images, "image"),
        counted(diagnosis.channels, "channel"),
        diagnosis.values,
    );
    body += "<h2>Findings</h2><ul class=\"findings\">";
    let findings = diagnosis.findings();
    for finding in &findings {
        let class = match finding.severity() {
            Severity::Note => "note",
            Severity::Warning => "warning",
        };
        let _ = write!(
            body,
            "<li class=\"{class}\">{}",
            escaped(&finding.to_string())
        );
        if let Some(remedy) = remedy(finding) {
            let _ = write!(body, "<p>{}</p>", escaped(&remedy));
        }
        body += "</li>";
    }
    if findings.is_empty() {
        body += "<li class=\"good\">No obstacles to training on these images were found.</li>";
    }
    body += "</ul><h2>Noise</h2>";
    for line in diagnosis.summary() {
        let _ = write!(body, "<p>{}</p>", escaped(&line));
    }
    body += "<div class=\"charts\">";
    for chart in charts(diagnosis) {
        body += &chart.figure();
    }
    body += "</div>";
    if let Some(first) = frames.first() {
        body += &pictures(diagnosis, first)?;
    }
    let version = env!("CARGO_PKG_VERSION");
    let _ = write!(body, "<footer>n2n {version} · n2n diagnose</footer>");
    Ok(html::document(title, &body))
}

fn charts(diagnosis: &Diagnosis) -> Vec<Chart<'static>> {
    const TRANSFER: [&str; 3] = [
        "Variance of the noise against the signal",
        "Green: variance of the noise against the signal",
        "Blue: variance of the noise against the signal",
    ];
    let mut charts = vec![];
    for (channel, noise) in diagnosis.noise.iter().take(3).enumerate() {
        let title = match (diagnosis.channels, channel) {
            (3, 0) => "Red: variance of the noise against the signal",
            _ => TRANSFER[channel],
        };
        charts.push(Chart {
            title,
            series: vec![("line fitted to flat windows", fitted(noise))],
            dots: noise
                .curve
                .iter()
                .map(|&[signal, variance]| (signal, variance))
                .collect(),
            ..Chart::default()
        });
        if diagnosis.channels != 3 {
            break;
        }
    }
    if let Some(correlation) = &diagnosis.correlation {
        let points = |along: &[f64; LAGS + 1]| {
            let points = along.iter().enumerate();
            points.map(|(lag, &value)| (lag as f64, value)).collect()
        };
        charts.push(Chart {
            title: "Autocorrelation of the noise by distance in pixels",
            series: vec![
                ("along rows", points(&correlation.x)),
                ("along columns", points(&correlation.y)),
            ],
            ..Chart::default()
        });
    }
    charts
}

fn fitted(noise: &Transfer) -> Vec<(f64, f64)> {
    let ends = [noise.curve.first(), noise.curve.last()];
    let at = |&[signal, _]: &[f64; 2]| (signal, noise.slope * signal + noise.intercept);
    ends.into_iter().flatten().map(at).collect()
}

fn pictures(diagnosis: &Diagnosis, frame: &Frame) -> Result<String> {
    let mut html = "<h2>Pictures</h2><div class=\"plates\">".to_string();
    let mut plate = |caption: &str, image: &Image| -> Result<()> {
        let uri = html::picture(image)?;
        let _ = write!(
            html,
            "<figure><img alt=\"{caption}\" src=\"{uri}\"><figcaption>{caption}</figcaption></figure>"
        );
        Ok(())
    };
    let middle = middle(frame);
    plate(
        "The middle of the first image, its contrast stretched",
        &stretched(&middle, 0.01),
    )?;
    plate(
        "The same without its smooth part: independent noise looks like sand; stripes, blocks and \
         clumps are correlated noise",
        &match diagnosis.noise.first() {
            Some(noise) => between(
                &rough_part(&middle),
                [-1, 1].map(|end| 4.0 * end as f32 * noise.levels[1].noise as f32),
            ),
            None => stretched(&rough_part(&middle), 0.01),
        },
    )?;
    if let Some(correlation) = &diagnosis.correlation {
        let side = (2 * LAGS + 1) * CELL;
        let pixel = |i: usize| correlation.plane[i / side / CELL][i % side / CELL];
        // Blue is −1, white 0, red 1; small values are spread out.
        let color = |value: f64| {
            let shown = value.signum() * value.abs().sqrt();
            let (warm, cold) = (shown.max(0.0) as f32, (-shown).max(0.0) as f32);
            [1.0 - cold, 1.0 - 0.8 * (warm + cold), 1.0 - warm]
        };
        let image = Image {
            height: side,
            width: side,
            channels: 3,
            data: (0..side * side).flat_map(|i| color(pixel(i))).collect(),
            depth: Depth::U8,
        };
        plate(
            "Autocorrelation of the noise, up to 8 pixels in all directions: independent noise \
             shows a single red point in the middle",
            &image,
        )?;
    }
    Ok(html + "</div>")
}

/// The central part of an image, at most [`SHOWN`] pixels wide and high; only the first channel unless there are
/// three.
fn middle(frame: &Frame) -> Frame {
    let mut middle = frame.middle(SHOWN, SHOWN);
    if middle.channels != 3 {
        middle.data = middle
            .data
            .iter()
            .copied()
            .step_by(middle.channels)
            .collect();
        middle.channels = 1;
    }
    middle
}

/// Every pixel minus the mean of the window around it.
fn rough_part(frame: &Frame) -> Frame {
    let reach = CORRELATION.0 / 4;
    let Frame {
        height,
        width,
        channels,
        ..
    } = *frame;
    let mut data = Vec::with_capacity(frame.data.len());
    let planes = planes(std::slice::from_ref(frame), channels);
    for y in 0..height {
        let rows = y.saturating_sub(reach)..(y + reach + 1).min(height);
        for x in 0..width {
            let columns = x.saturating_sub(reach)..(x + reach + 1).min(width);
            for plane in &planes {
                let around = rows
                    .clone()
                    .flat_map(|y| &plane.data[y * width..][columns.clone()]);
                let count = (rows.len() * columns.len()) as f32;
                data.push(plane.data[y * width + x] - around.sum::<f32>() / count);
            }
        }
    }
    Frame { data, ..*frame }
}

/// The image with the given fraction of its values shown as black, and the same fraction as white.
fn stretched(frame: &Frame, part: f64) -> Image {
    let mut sorted: Vec<f32> = frame
        .data
        .iter()
        .copied()
        .filter(|v| v.is_finite())
        .collect();
    sorted.sort_by(f32::total_cmp);
    let at = |part: f64| {
        let last = sorted.len().saturating_sub(1);
        sorted
            .get((last as f64 * part) as usize)
            .copied()
            .unwrap_or(0.0)
    };
    between(frame, [at(part), at(1.0 - part)])
}

/// The image with these values shown as black and white.
fn between(frame: &Frame, [low, high]: [f32; 2]) -> Image {
    let range = if high > low { high - low } else { 1.0 };
    Image {
        height: frame.height,
        width: frame.width,
        channels: frame.channels,
        data: frame
            .data
            .iter()
            .map(|value| (value - low) / range)
            .collect(),
        depth: Depth::U8,
    }
}
