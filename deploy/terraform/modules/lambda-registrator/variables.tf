# SPDX-License-Identifier: MPL-2.0

# The predecessor's variables first, with its names and meaning. Empty means unset throughout.

variable "name" {
  description = "Name of the function. The names of its role, policy, rules, queue and alarms begin with it."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^[a-zA-Z0-9_-]{1,52}$", var.name))
    error_message = "name: letters, digits, _ and -, 52 of them at most; a rule's name has 12 more, and may have 64."
  }
}

variable "consul_http_addr" {
  description = "URL of a Consul server or client, with its port: `https://consul.example.com:8501`."
  type        = string
  nullable    = false
}

variable "consul_datacenter" {
  description = "Datacenter of functions that have no datacenter tag. Empty: that of the agent asked."
  type        = string
  default     = ""
  nullable    = false
}

variable "consul_ca_cert_path" {
  description = "Name of the parameter that holds the CA certificate of Consul's HTTPS API. Empty: the system's certificate authorities."
  type        = string
  default     = ""
  nullable    = false
}

variable "consul_http_token_path" {
  description = "Name of the parameter that holds the ACL token. Empty: no token."
  type        = string
  default     = ""
  nullable    = false
}

variable "consul_extension_data_prefix" {
  description = "Path below which credential documents are written, for functions that call the mesh. Empty: none are written."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^(/[a-zA-Z0-9_.-]+)*/?$", var.consul_extension_data_prefix))
    error_message = "consul_extension_data_prefix: a path such as /mesh, of letters, digits, _ . - and slashes, that begins with a slash."
  }
}

variable "consul_extension_data_tier" {
  description = "Tier of the documents: `Standard`, `Advanced` or `Intelligent-Tiering`. Empty: the last, because a document can outgrow Standard in a rotation."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = contains(["", "standard", "advanced", "intelligent-tiering"], lower(var.consul_extension_data_tier))
    error_message = "consul_extension_data_tier: Standard, Advanced, Intelligent-Tiering, or empty."
  }
}

variable "node_name" {
  description = "Node of Consul's catalog that the functions are registered on."
  type        = string
  default     = "lambdas"
  nullable    = false
}

variable "enterprise" {
  description = "Whether Consul is Enterprise: namespaces and partitions are used then."
  type        = bool
  default     = false
  nullable    = false
}

variable "partitions" {
  description = "Admin partitions to manage (Enterprise)."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "timeout" {
  description = "Seconds that a run may take. The predecessor's default was 30: too few for a first run over many functions, and a run that needs less does not cost more."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.timeout >= 1 && var.timeout <= 900
    error_message = "timeout: 1 to 900 seconds."
  }
}

variable "reserved_concurrent_executions" {
  description = "Concurrency reserved for the function. -1: none, as with the predecessor. 1, one run at a time, is recommended: the cap on deletes then counts the deletes of all events, and no two runs write one document."
  type        = number
  default     = -1
  nullable    = false

  validation {
    condition     = var.reserved_concurrent_executions == -1 || var.reserved_concurrent_executions >= 1
    error_message = "reserved_concurrent_executions: -1, or 1 and more; with 0 the function would never run."
  }
}

variable "sync_frequency_in_minutes" {
  description = "Minutes between two full runs. Certificates are renewed in these, so it has to be well below a tenth of their life (72 hours unless Consul says otherwise)."
  type        = number
  default     = 10
  nullable    = false

  validation {
    condition     = var.sync_frequency_in_minutes >= 1 && var.sync_frequency_in_minutes <= 1440 && floor(var.sync_frequency_in_minutes) == var.sync_frequency_in_minutes
    error_message = "sync_frequency_in_minutes: a whole number from 1 to 1440."
  }
}

variable "subnet_ids" {
  description = "Subnets to run in, together with security_group_ids. They need a way to Consul and, through NAT, to the AWS APIs."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "security_group_ids" {
  description = "Security groups to run with, together with subnet_ids."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "tags" {
  description = "Tags of the function, and of everything else here that takes tags."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "arch" {
  description = "Architecture that the package was built for: `x86_64` or `arm64`."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.arch)
    error_message = "arch: x86_64 or arm64."
  }
}

variable "ecr_image_uri" {
  description = "Image of the registrator in a private repository of the same region, in place of a zip."
  type        = string
  default     = ""
  nullable    = false
}

# The predecessor needed these to get its public image into a private repository, with Docker on the machine that ran Terraform.
# They are accepted, so that a caller need not change, and have no effect.

# tflint-ignore: terraform_unused_declarations
variable "private_ecr_repo_name" {
  description = "Needless, and without effect: no image is published."
  type        = string
  default     = ""
}

# tflint-ignore: terraform_unused_declarations
variable "consul_lambda_registrator_image" {
  description = "Needless, and without effect: no image is published."
  type        = string
  default     = ""
}

# tflint-ignore: terraform_unused_declarations
variable "docker_host" {
  description = "Needless, and without effect: Docker is not used."
  type        = string
  default     = ""
}

variable "enable_auto_publish_ecr_image" {
  description = "Needless, and without effect but a warning: no image is published."
  type        = bool
  default     = false
  nullable    = false
}

# New here.

variable "zip_path" {
  description = "The registrator's zip on this machine, as `make dist` builds it. One of zip_path, s3_bucket and ecr_image_uri is needed."
  type        = string
  default     = ""
  nullable    = false
}

variable "s3_bucket" {
  description = "Bucket of the same region that holds the zip."
  type        = string
  default     = ""
  nullable    = false
}

variable "s3_key" {
  description = "Key of the zip in s3_bucket."
  type        = string
  default     = ""
  nullable    = false
}

variable "s3_object_version" {
  description = "Version of the object, in a bucket that keeps versions."
  type        = string
  default     = ""
  nullable    = false
}

variable "memory_size" {
  description = "Memory in MB. It buys CPU too: 128 MB have 7 % of one."
  type        = number
  default     = 256
  nullable    = false

  validation {
    condition     = var.memory_size >= 128 && var.memory_size <= 10240
    error_message = "memory_size: 128 to 10240."
  }
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that the documents are encrypted with. Empty: the account's `alias/aws/ssm`."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^(arn:[^:]+:kms:[^:]+:[0-9]+:key/.+)?$", var.kms_key_arn))
    error_message = "kms_key_arn: the ARN of a key, arn:…:kms:…:key/…; a policy cannot name an alias."
  }
}

variable "consul_secrets_kms_key_arns" {
  description = "ARNs of the KMS keys that the parameters of consul_ca_cert_path and consul_http_token_path are encrypted with, unless it is `alias/aws/ssm`."
  type        = list(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for arn in var.consul_secrets_kms_key_arns : can(regex("^arn:[^:]+:kms:[^:]+:[0-9]+:key/.+$", arn))])
    error_message = "consul_secrets_kms_key_arns: ARNs of keys, arn:…:kms:…:key/…; a policy cannot name an alias."
  }
}

variable "policy" {
  description = "What a run may do: `sync`, `upsert-only` (no deletes) or `dry-run` (only say what it would do)."
  type        = string
  default     = "sync"
  nullable    = false

  validation {
    condition     = contains(["sync", "upsert-only", "dry-run"], var.policy)
    error_message = "policy: sync, upsert-only or dry-run."
  }
}

variable "max_deletes" {
  description = "Services that one run may deregister: above it the run deletes none, and fails. Null: the larger of 5 and 20 %. For none at all, see policy."
  type        = number
  default     = null

  validation {
    condition     = try(var.max_deletes >= 1 && floor(var.max_deletes) == var.max_deletes, var.max_deletes == null)
    error_message = "max_deletes: a whole number from 1, or null; for no deletes at all, policy is upsert-only."
  }
}

variable "page_size" {
  description = "Functions asked for at a time where the tagging API cannot be used. Null: the registrator's default."
  type        = number
  default     = null

  validation {
    condition     = try(contains(range(1, 51), var.page_size), var.page_size == null)
    error_message = "page_size: 1 to 50, or null."
  }
}

variable "extension_refresh_frequency_in_minutes" {
  description = "The longest CONSUL_REFRESH_FREQUENCY of a function: how soon it has what a run has written. A certificate is renewed with that much time to spare."
  type        = number
  default     = 5
  nullable    = false

  validation {
    condition     = var.extension_refresh_frequency_in_minutes >= 1 && floor(var.extension_refresh_frequency_in_minutes) == var.extension_refresh_frequency_in_minutes
    error_message = "extension_refresh_frequency_in_minutes: a whole number from 1."
  }
}

variable "rate_limits" {
  description = "Calls a second to Lambda's control plane (`lambda`, but for GetFunction: `get_function`), the tagging API, PutParameter and Consul. 0: no limit. Null: a third of what the account or the cluster allows."
  type = object({
    lambda       = optional(number)
    get_function = optional(number)
    tagging      = optional(number)
    ssm_put      = optional(number)
    consul       = optional(number)
  })
  default  = {}
  nullable = false

  validation {
    condition     = alltrue([for rate in values(var.rate_limits) : rate == null ? true : rate >= 0])
    error_message = "rate_limits: 0 or more, or null."
  }
}

variable "log_level" {
  description = "`trace`, `debug`, `info`, `warn`, `error` or `off`."
  type        = string
  default     = "info"
  nullable    = false

  validation {
    condition     = contains(["trace", "debug", "info", "warn", "error", "off"], lower(var.log_level))
    error_message = "log_level: trace, debug, info, warn, error or off."
  }
}

variable "environment" {
  description = "More variables for the registrator, those of Consul's client above all: `CONSUL_NAMESPACE`, `CONSUL_TLS_SERVER_NAME`. They win over what this module sets."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "metrics" {
  description = "`emf`: metrics as lines of the log, which CloudWatch extracts; `off`: none, and no alarms on them."
  type        = string
  default     = "emf"
  nullable    = false

  validation {
    condition     = contains(["emf", "off"], var.metrics)
    error_message = "metrics: emf or off."
  }
}

variable "create_alarms" {
  description = "Whether to create the alarms."
  type        = bool
  default     = true
  nullable    = false
}

variable "alarm_actions" {
  description = "ARNs told of an alarm and of its end, an SNS topic for one."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "alarm_leaf_life_left_seconds" {
  description = "The alarm leaf-life is for a certificate with less life left than that. Null: twice the sum of sync_frequency_in_minutes and extension_refresh_frequency_in_minutes."
  type        = number
  default     = null
}

variable "log_group_name" {
  description = "Log group to create. Empty: `/consul-lambda/<name>`."
  type        = string
  default     = ""
  nullable    = false
}

variable "log_retention_in_days" {
  description = "Days that the log is kept. 0: for ever."
  type        = number
  default     = 30
  nullable    = false
}

variable "log_kms_key_arn" {
  description = "ARN of the KMS key that the log is encrypted with. Empty: CloudWatch's own."
  type        = string
  default     = ""
  nullable    = false
}

variable "maximum_retry_attempts" {
  description = "How often Lambda tries an event again whose run failed: 0 to 2."
  type        = number
  default     = 2
  nullable    = false

  validation {
    condition     = contains([0, 1, 2], var.maximum_retry_attempts)
    error_message = "maximum_retry_attempts: 0, 1 or 2."
  }
}

variable "maximum_event_age_in_seconds" {
  description = "Age at which an event is given up, 60 to 21600. The default is an hour: by then, full runs have seen what it was about."
  type        = number
  default     = 3600
  nullable    = false

  validation {
    condition     = var.maximum_event_age_in_seconds >= 60 && var.maximum_event_age_in_seconds <= 21600
    error_message = "maximum_event_age_in_seconds: 60 to 21600."
  }
}

variable "failure_destination" {
  description = "A queue or topic of yours for events that could not be handled: its ARN, and `sqs` or `sns`. Null: a queue is created."
  type = object({
    arn     = string
    service = optional(string, "sqs")
  })
  default = null

  validation {
    condition     = var.failure_destination == null ? true : contains(["sqs", "sns"], var.failure_destination.service)
    error_message = "failure_destination: service is sqs or sns."
  }
}
