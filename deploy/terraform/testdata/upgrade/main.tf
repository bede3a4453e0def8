# SPDX-License-Identifier: MPL-2.0

# A caller of lambda-registrator, for plans over predecessor.json: what the predecessor's module leaves in a state, but for what it
# needed Docker and a random name for. The provider is the real one, because a mock does not know which changes replace a resource; all
# that it asks of AWS in a plan is who it is, and `tfcheck upgrade` answers.

terraform {
  required_providers {
    aws = {
      source = "hashicorp/aws"
    }
  }
}

variable "sts" {
  description = "URL of what answers for STS."
  type        = string
}

variable "zip_path" {
  description = "As of lambda-registrator."
  type        = string
  default     = ""
}

variable "ecr_image_uri" {
  description = "As of lambda-registrator."
  type        = string
  default     = ""
}

provider "aws" {
  region                      = "us-east-1"
  access_key                  = "none"
  secret_key                  = "none"
  skip_credentials_validation = true
  skip_metadata_api_check     = true
  skip_region_validation      = true
  skip_requesting_account_id  = true

  endpoints {
    sts = var.sts
  }
}

module "registrator" {
  source = "../../modules/lambda-registrator"

  name                         = "reg"
  consul_http_addr             = "https://consul.example.com:8501"
  consul_ca_cert_path          = "/consul/ca"
  consul_extension_data_prefix = "/mesh"
  zip_path                     = var.zip_path
  ecr_image_uri                = var.ecr_image_uri
}
