//! Whether the builder's image exists: the only question to ECR, asked by the reaper once a minute. So a missing image
//! is known before a build fails for it, a pushed image is found by itself, and the question costs nothing.

use aws_sdk_ecr::{Client, operation::describe_images::DescribeImagesError, types::ImageIdentifier};
use aws_types::SdkConfig;
use binplz_core::{id::key::System, ports::Unavailable};

use crate::{
    account::Account,
    config::{ConfigError, Settings},
    unavailable,
};

const TAGS: &str = "BINPLZ_IMAGE_TAGS";

/// The ECR repository of the builder's images.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    ecr: Client,
    repository: String,
    x86_64: String,
    arm64: String,
}

impl Images {
    /// Opens the repository that the settings name. Without one the images are elsewhere, and are not checked.
    pub(crate) fn open(account: &Account, settings: &Settings) -> Result<Option<Images>, ConfigError> {
        let Some(repository) = settings.find("BINPLZ_REPOSITORY") else { return Ok(None) };
        Images::of(&account.sdk, repository, settings.list(TAGS)?).map(Some)
    }

    /// A repository whose images have these tags, first the one for x86_64, then the one for arm64.
    pub(crate) fn of(sdk: &SdkConfig, repository: &str, tags: Vec<String>) -> Result<Images, ConfigError> {
        let [x86_64, arm64] = tags.try_into().map_err(|tags: Vec<String>| ConfigError::Wrong {
            name: TAGS,
            what: "a tag for x86_64 and one for arm64",
            cause: format!("it has {}", tags.len()),
        })?;
        Ok(Images { ecr: Client::new(sdk), repository: repository.to_owned(), x86_64, arm64 })
    }

    /// Whether there is an image for a system.
    pub(crate) async fn has(&self, system: System) -> Result<bool, Unavailable> {
        let tag = match system {
            System::X86_64Linux => &self.x86_64,
            System::Aarch64Linux => &self.arm64,
        };
        let image = ImageIdentifier::builder().image_tag(tag).build();
        match self.ecr.describe_images().repository_name(&self.repository).image_ids(image).send().await {
            Ok(found) => Ok(!found.image_details().is_empty()),
            Err(error) if error.as_service_error().is_some_and(DescribeImagesError::is_image_not_found_exception) => {
                Ok(false)
            }
            Err(error) => Err(unavailable("images", &error)),
        }
    }
}
