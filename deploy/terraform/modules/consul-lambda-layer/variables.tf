# SPDX-License-Identifier: MPL-2.0

variable "zip_paths" {
  description = "The extension's zips on this machine, as `make dist` builds them, by architecture: `x86_64`, `arm64`, or both."
  type        = map(string)
  nullable    = false

  validation {
    condition     = length(var.zip_paths) > 0 && length(setsubtract(keys(var.zip_paths), ["x86_64", "arm64"])) == 0
    error_message = "zip_paths: a path for x86_64, arm64, or both."
  }
}

variable "name" {
  description = "What the layers' names begin with; the architecture follows."
  type        = string
  default     = "consul-lambda-extension"
  nullable    = false
}

variable "description" {
  description = "Description of the layer versions; a place for the release."
  type        = string
  default     = "Carries a function's connections into a Consul service mesh"
  nullable    = false
}

variable "keep_old_versions" {
  description = "Whether a version stays when a new one takes its place, or all of this is destroyed. A function that has an old version works without it, but cannot be updated to it again."
  type        = bool
  default     = false
  nullable    = false
}
