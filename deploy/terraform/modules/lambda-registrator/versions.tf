# SPDX-License-Identifier: MPL-2.0

terraform {
  # Variables that are validated against each other came with 1.9.
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100"
    }
  }
}
