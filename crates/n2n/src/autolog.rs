//! The benchmark report of an inference run in the format of Paddle's AutoLog 1.0, line by line, so that tools that
//! read its reports can read ours.
//!
//! Its keys keep their spelling (`drivier_version`), and values that do not exist here are `None`, as in AutoLog.
//! Where this program has more to report, lines are added to a section.

use std::time::Duration;

use crate::infer::Times;

/// The measurements, and the setup.
#[derive(Debug, Clone, PartialEq)]
pub struct Benchmark {
    /// The operating system; see [`crate::system::os_version`].
    pub os_version: String,
    /// The engine that ran the model.
    pub engine: String,
    /// The processor level of the kernels, if they are ours.
    pub cpu_level: Option<String>,
    /// CPU threads.
    pub threads: usize,
    /// Images per batch; the last batch may have been smaller.
    pub batch_size: usize,
    /// Channels, height and width of the images; `None` if they differed.
    pub input_shape: Option<[usize; 3]>,
    /// Number of images denoised.
    pub data_num: usize,
    /// Resident memory in MB of 2²⁰ bytes; see [`crate::system::rss_mb`].
    pub cpu_rss_mb: Option<f64>,
    /// The time of each stage over all images.
    pub times: Times,
}

impl Benchmark {
    /// The lines of the report, each starting with `[time] root INFO: `; `time` should have the format
    /// `yyyy/mm/dd HH:MM:SS`.
    pub fn lines(&self, time: &str) -> Vec<String> {
        self.messages()
            .into_iter()
            .map(|message| format!("[{time}] root INFO: {message}"))
            .collect()
    }

    fn messages(&self) -> Vec<String> {
        let times = &self.times;
        let total = times.preprocess + times.inference + times.postprocess;
        // Per image; AutoLog's own figure is the mean over batches.
        let image_ms =
            |stage: Duration| rounded(1e3 * stage.as_secs_f64() / self.data_num.max(1) as f64);
        let shape = self
            .input_shape
            .map_or("dynamic".into(), |shape| format!("{shape:?}"));
        let rss = or_none(self.cpu_rss_mb.map(rounded));
        vec![
            "---------------------- Env info ----------------------".into(),
            entry("OS_version", &self.os_version),
            entry("CUDA_version", "None"),
            entry("CUDNN_version", "None"),
            entry("drivier_version", "None"),
            "---------------------- Framework info ----------------------".into(),
            entry("paddle_version", "None"),
            entry("paddle_commit", "None"),
            entry("log_api_version", "1.0"),
            entry("n2n_version", env!("CARGO_PKG_VERSION")),
            entry("engine", &self.engine),
            entry("cpu_level", or_none(self.cpu_level.as_ref())),
            "----------------------- Conf info -----------------------".into(),
            entry("runtime_device", "cpu"),
            entry("ir_optim", "True"),
            entry("enable_memory_optim", "True"),
            entry("enable_tensorrt", "False"),
            entry("enable_mkldnn", "False"),
            entry("cpu_math_library_num_threads", self.threads),
            "----------------------- Model info ----------------------".into(),
            entry("model_name", "N2N"),
            entry("precision", "fp32"),
            "----------------------- Data info -----------------------".into(),
            entry("batch_size", self.batch_size),
            entry("input_shape", shape),
            entry("data_num", self.data_num),
            "----------------------- Perf info -----------------------".into(),
            format!(" cpu_rss(MB): {rss}, gpu_rss(MB): None, gpu_util: None%"),
            entry("total time spent(s)", rounded(total.as_secs_f64())),
            format!(
                " preprocess_time(ms): {}, inference_time(ms): {}, postprocess_time(ms): {}",
                image_ms(times.preprocess),
                image_ms(times.inference),
                image_ms(times.postprocess)
            ),
        ]
    }
}

fn entry(key: &str, value: impl std::fmt::Display) -> String {
    format!(" {key}: {value}")
}

fn or_none(value: Option<impl ToString>) -> String {
    value.map_or("None".into(), |value| value.to_string())
}

/// At most four decimals and at least one, as Python prints `round(value, 4)`.
fn rounded(value: f64) -> String {
    format!("{:?}", (value * 1e4).round() / 1e4)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn benchmark() -> Benchmark {
        Benchmark {
            os_version: "Some Linux 1.2 (linux x86_64)".into(),
            engine: "native".into(),
            cpu_level: Some("avx2".into()),
            threads: 2,
            batch_size: 2,
            input_shape: Some([3, 256, 256]),
            data_num: 3,
            cpu_rss_mb: Some(101.5),
            times: Times {
                preprocess: Duration::from_millis(6),
                inference: Duration::from_millis(301),
                postprocess: Duration::from_micros(1500),
            },
        }
    }

    #[test]
    fn every_line_has_autologs_form() {
        let want = "\
[2022/01/31 08:09:10] root INFO: ---------------------- Env info ----------------------
[2022/01/31 08:09:10] root INFO:  OS_version: Some Linux 1.2 (linux x86_64)
[2022/01/31 08:09:10] root INFO:  CUDA_version: None
[2022/01/31 08:09:10] root INFO:  CUDNN_version: None
[2022/01/31 08:09:10] root INFO:  drivier_version: None
[2022/01/31 08:09:10] root INFO: ---------------------- Framework info ----------------------
[2022/01/31 08:09:10] root INFO:  paddle_version: None
[2022/01/31 08:09:10] root INFO:  paddle_commit: None
[2022/01/31 08:09:10] root INFO:  log_api_version: 1.0
[2022/01/31 08:09:10] root INFO:  n2n_version: VERSION
[2022/01/31 08:09:10] root INFO:  engine: native
[2022/01/31 08:09:10] root INFO:  cpu_level: avx2
[2022/01/31 08:09:10] root INFO: ----------------------- Conf info -----------------------
[2022/01/31 08:09:10] root INFO:  runtime_device: cpu
[2022/01/31 08:09:10] root INFO:  ir_optim: True
[2022/01/31 08:09:10] root INFO:  enable_memory_optim: True
[2022/01/31 08:09:10] root INFO:  enable_tensorrt: False
[2022/01/31 08:09:10] root INFO:  enable_mkldnn: False
[2022/01/31 08:09:10] root INFO:  cpu_math_library_num_threads: 2
[2022/01/31 08:09:10] root INFO: ----------------------- Model info ----------------------
[2022/01/31 08:09:10] root INFO:  model_name: N2N
[2022/01/31 08:09:10] root INFO:  precision: fp32
[2022/01/31 08:09:10] root INFO: ----------------------- Data info -----------------------
[2022/01/31 08:09:10] root INFO:  batch_size: 2
[2022/01/31 08:09:10] root INFO:  input_shape: [3, 256, 256]
[2022/01/31 08:09:10] root INFO:  data_num: 3
[2022/01/31 08:09:10] root INFO: ----------------------- Perf info -----------------------
[2022/01/31 08:09:10] root INFO:  cpu_rss(MB): 101.5, gpu_rss(MB): None, gpu_util: None%
[2022/01/31 08:09:10] root INFO:  total time spent(s): 0.3085
[2022/01/31 08:09:10] root INFO:  preprocess_time(ms): 2.0, inference_time(ms): 100.3333, \
         postprocess_time(ms): 0.5"
            .replace("VERSION", env!("CARGO_PKG_VERSION"));
        let lines = benchmark().lines("2022/01/31 08:09:10");
        assert_eq!(lines.join("\n"), want);
    }

    #[test]
    fn what_is_not_known_is_none() {
        let unknown = Benchmark {
            cpu_level: None,
            cpu_rss_mb: None,
            input_shape: None,
            data_num: 0,
            ..benchmark()
        };
        let report = unknown.lines("").join("\n");
        for line in [
            " cpu_level: None",
            " cpu_rss(MB): None, gpu_rss(MB): None",
            " input_shape: dynamic",
        ] {
            assert!(report.contains(line), "{line} is not in\n{report}");
        }
    }
}
