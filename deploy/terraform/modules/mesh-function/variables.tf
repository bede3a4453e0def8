# SPDX-License-Identifier: MPL-2.0

variable "function_name" {
  description = "Name of the function. It is the service's name in Consul too, and the last part of its parameter's."
  type        = string
  nullable    = false
}

variable "role_name" {
  description = "Name of the function's role: it gets a policy for the function's own parameter."
  type        = string
  nullable    = false
}

variable "layer_arn" {
  description = "Layer version of the extension, for the function's architecture: see consul-lambda-layer."
  type        = string
  nullable    = false
}

variable "mesh_gateway_uris" {
  description = "Mesh gateways of the function's datacenter as `host:port`: one, or several for failover."
  type        = list(string)
  nullable    = false

  validation {
    condition     = length(var.mesh_gateway_uris) > 0 && alltrue([for uri in var.mesh_gateway_uris : can(regex("^([^/:,]+|\\[[^]]+\\]):[0-9]+$", uri))])
    error_message = "mesh_gateway_uris: host:port each, without a scheme; an IPv6 address in brackets."
  }
}

variable "data_prefix" {
  description = "Where the registrator writes: its consul_extension_data_prefix."
  type        = string
  nullable    = false

  validation {
    condition     = can(regex("^(/[a-zA-Z0-9_.-]+)+/?$", var.data_prefix))
    error_message = "data_prefix: a path such as /mesh."
  }
}

variable "upstreams" {
  description = "Services to call, each with a port on localhost: `web:1234`, `db.shop:5432`, `api.svc.east.peer:8080`."
  type        = list(string)
  default     = []
  nullable    = false
}

variable "namespace" {
  description = "Namespace that the function is registered in (Enterprise)."
  type        = string
  default     = ""
  nullable    = false
}

variable "partition" {
  description = "Admin partition that the function is registered in (Enterprise)."
  type        = string
  default     = ""
  nullable    = false
}

variable "kms_key_arn" {
  description = "ARN of the KMS key that the registrator encrypts with: its kms_key_arn."
  type        = string
  default     = ""
  nullable    = false

  validation {
    condition     = can(regex("^(arn:[^:]+:kms:[^:]+:[0-9]+:key/.+)?$", var.kms_key_arn))
    error_message = "kms_key_arn: the ARN of a key, arn:…:kms:…:key/…; a policy cannot name an alias."
  }
}

variable "settings" {
  description = "What can be tuned in the extension; docs/configuration.md has each with its default. Durations are Go's: `5m`, `300ms`."
  type = object({
    refresh_frequency  = optional(string)
    proxy_timeout      = optional(string)
    bind_addr          = optional(string)
    warm_connections   = optional(string)
    warm_max_idle      = optional(string)
    dial_timeout       = optional(string)
    idle_timeout       = optional(string)
    max_connection_age = optional(string)
    max_connections    = optional(number)
    tls_resumption     = optional(bool)
    strict             = optional(bool)
    metrics            = optional(string)
    log_level          = optional(string)
    trace_enabled      = optional(bool)
  })
  default  = {}
  nullable = false
}

variable "service_tags" {
  description = "More of the registrator's tags, without their prefix: `{ \"invocation-mode\" = \"ASYNCHRONOUS\" }`."
  type        = map(string)
  default     = {}
  nullable    = false
}

variable "vpc" {
  description = "For a function in a VPC: where, the addresses of the mesh gateways, and how it reaches Parameter Store. `create_ssm_endpoint` is true for an endpoint made here, false where the subnets have NAT or the VPC an endpoint. Null: not in a VPC."
  type = object({
    id                  = string
    subnet_ids          = list(string)
    mesh_gateway_cidrs  = list(string)
    create_ssm_endpoint = bool
  })
  default = null

  validation {
    condition     = var.vpc == null ? true : length(var.vpc.subnet_ids) > 0 && length(var.vpc.mesh_gateway_cidrs) > 0
    error_message = "vpc: name at least one of subnet_ids and one of mesh_gateway_cidrs."
  }
  validation {
    condition     = var.vpc == null ? true : var.vpc.create_ssm_endpoint != null
    error_message = "vpc: say whether to create_ssm_endpoint. Without an endpoint or NAT the function cannot read its credentials."
  }
}

variable "tags" {
  description = "Tags of what is created here."
  type        = map(string)
  default     = {}
  nullable    = false
}
