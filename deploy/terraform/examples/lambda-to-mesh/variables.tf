# SPDX-License-Identifier: MPL-2.0

variable "region" {
  description = "AWS region."
  type        = string
}

variable "name" {
  description = "What the names of everything here begin with; the documents are below `/<name>`."
  type        = string
  default     = "lambda-to-mesh"
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

variable "mesh_gateway_uris" {
  description = "Mesh gateways as `host:port`."
  type        = list(string)
}

variable "mesh_gateway_cidrs" {
  description = "Addresses of the mesh gateways, for the function's security group."
  type        = list(string)
}

variable "upstream" {
  description = "Service of the mesh to call over HTTP."
  type        = string
}

variable "vpc_id" {
  description = "VPC from which Consul and the mesh gateways can be reached."
  type        = string
}

variable "subnet_ids" {
  description = "Private subnets of it. The registrator needs NAT in them, for the AWS APIs."
  type        = list(string)
}

variable "registrator_security_group_ids" {
  description = "Security groups that let the registrator out to Consul and to the AWS APIs."
  type        = list(string)
}

variable "create_ssm_endpoint" {
  description = "Whether to create an endpoint of Parameter Store. The NAT that the registrator needs serves the function too."
  type        = bool
  default     = false
}

variable "registrator_zip_path" {
  description = "The registrator. Null: what `make dist` built."
  type        = string
  default     = null
}

variable "extension_zip_path" {
  description = "The extension's layer. Null: what `make dist` built."
  type        = string
  default     = null
}

variable "function_zip_path" {
  description = "The function. Null: examples/mesh-function, as `make dist` built it."
  type        = string
  default     = null
}
