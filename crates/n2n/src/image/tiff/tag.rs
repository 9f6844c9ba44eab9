//! Tags that this program reads or writes (TIFF 6.0, appendix A; TIFF/EP; Exif; GDAL), and their values.

pub(super) const NEW_SUBFILE_TYPE: u16 = 254;
pub(super) const SUBFILE_TYPE: u16 = 255;
pub(super) const WIDTH: u16 = 256;
pub(super) const LENGTH: u16 = 257;
pub(super) const BITS_PER_SAMPLE: u16 = 258;
pub(super) const COMPRESSION: u16 = 259;
pub(super) const PHOTOMETRIC: u16 = 262;
pub(super) const FILL_ORDER: u16 = 266;
pub(super) const DESCRIPTION: u16 = 270;
pub(super) const STRIP_OFFSETS: u16 = 273;
pub(super) const ORIENTATION: u16 = 274;
pub(super) const SAMPLES_PER_PIXEL: u16 = 277;
pub(super) const ROWS_PER_STRIP: u16 = 278;
pub(super) const STRIP_BYTE_COUNTS: u16 = 279;
pub(super) const X_RESOLUTION: u16 = 282;
pub(super) const Y_RESOLUTION: u16 = 283;
pub(super) const PLANAR_CONFIGURATION: u16 = 284;
pub(super) const T4_OPTIONS: u16 = 292;
pub(super) const RESOLUTION_UNIT: u16 = 296;
pub(super) const PREDICTOR: u16 = 317;
pub(super) const COLOR_MAP: u16 = 320;
pub(super) const TILE_WIDTH: u16 = 322;
pub(super) const TILE_LENGTH: u16 = 323;
pub(super) const TILE_OFFSETS: u16 = 324;
pub(super) const TILE_BYTE_COUNTS: u16 = 325;
pub(super) const SUB_IFDS: u16 = 330;
pub(super) const NUMBER_OF_INKS: u16 = 334;
pub(super) const EXTRA_SAMPLES: u16 = 338;
pub(super) const SAMPLE_FORMAT: u16 = 339;
pub(super) const JPEG_TABLES: u16 = 347;
pub(super) const JPEG_INTERCHANGE: u16 = 513;
pub(super) const JPEG_INTERCHANGE_LENGTH: u16 = 514;
pub(super) const YCBCR_SUBSAMPLING: u16 = 530;
/// Slices of a volume, by SGI.
pub(super) const IMAGE_DEPTH: u16 = 32997;
/// The planes of a `MetaMorph` stack: the field's count is their number.
pub(super) const UIC2: u16 = 33629;
pub(super) const XMP: u16 = 700;
pub(super) const ICC: u16 = 34675;
pub(super) const EXIF: u16 = 34665;
pub(super) const GPS: u16 = 34853;
/// A directory inside the Exif directory.
pub(super) const INTEROPERABILITY: u16 = 40965;
pub(super) const GDAL_NODATA: u16 = 42113;

/// The meaning of the samples of a pixel (TIFF 6.0 and its supplements).
pub(super) mod photometric {
    pub(in super::super) const WHITE_IS_ZERO: u16 = 0;
    pub(in super::super) const BLACK_IS_ZERO: u16 = 1;
    pub(in super::super) const RGB: u16 = 2;
    pub(in super::super) const PALETTE: u16 = 3;
    pub(in super::super) const SEPARATED: u16 = 5;
    pub(in super::super) const YCBCR: u16 = 6;
    pub(in super::super) const CIE_LAB: u16 = 8;
    pub(in super::super) const ICC_LAB: u16 = 9;
    pub(in super::super) const ITU_LAB: u16 = 10;
    pub(in super::super) const CFA: u16 = 32803;
    pub(in super::super) const LOG_L: u16 = 32844;
    pub(in super::super) const LOG_LUV: u16 = 32845;
    pub(in super::super) const LINEAR_RAW: u16 = 34892;
}
