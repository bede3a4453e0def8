# SPDX-License-Identifier: MPL-2.0

variable "region" {
  description = "AWS region."
  type        = string
}

variable "name" {
  description = "What the names of everything here begin with."
  type        = string
  default     = "mesh-to-lambda"
}

variable "consul_http_addr" {
  description = "URL of a Consul server, with its port."
  type        = string
}

variable "consul_http_token_path" {
  description = "Parameter with the registrator's ACL token. Empty: no token."
  type        = string
  default     = ""
}

variable "consul_ca_cert_path" {
  description = "Parameter with the CA certificate of Consul's HTTPS API. Empty: the system's authorities."
  type        = string
  default     = ""
}

variable "subnet_ids" {
  description = "Private subnets with NAT from which Consul can be reached. Empty: the registrator is not in a VPC."
  type        = list(string)
  default     = []
}

variable "security_group_ids" {
  description = "Security groups that let the registrator out to Consul and to the AWS APIs, with subnet_ids."
  type        = list(string)
  default     = []
}

variable "gateway_service_name" {
  description = "Service name of the terminating gateway."
  type        = string
  default     = "terminating-gateway"
}

variable "gateway_role_name" {
  description = "IAM role of the terminating gateway's machine or task: it gets a policy to invoke the function."
  type        = string
}

variable "invocation_mode" {
  description = "`SYNCHRONOUS`, or `ASYNCHRONOUS`: the caller gets no answer then."
  type        = string
  default     = "SYNCHRONOUS"
}

variable "payload_passthrough" {
  description = "Whether the function gets the body alone, and not the request as JSON."
  type        = bool
  default     = false
}

variable "registrator_zip_path" {
  description = "The registrator. Null: what `make dist` built."
  type        = string
  default     = null
}

variable "function_zip_path" {
  description = "The function. Null: examples/mesh-function, as `make dist` built it."
  type        = string
  default     = null
}
