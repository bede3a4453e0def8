# SPDX-License-Identifier: MPL-2.0

output "layers" {
  description = "For the function's `layers`."
  value       = [var.layer_arn]
}

output "environment" {
  description = "For the `variables` of the function's environment, merged with its own."
  # What is empty is left out: the extension has the defaults.
  value = { for name, value in local.environment : name => tostring(value) if value != null && value != "" }
}

output "tags" {
  description = "For the function's `tags`, merged with its own: the registrator registers what has them."
  value = { for tag, value in merge(
    { enabled = "true", namespace = var.namespace, partition = var.partition },
    var.service_tags,
  ) : "serverless.consul.hashicorp.com/v1alpha1/lambda/${tag}" => value if value != "" }
}

output "vpc_config" {
  description = "For a `vpc_config` of the function: null, or subnet_ids and security_group_ids."
  value = local.in_vpc ? {
    subnet_ids         = var.vpc.subnet_ids
    security_group_ids = [aws_security_group.function[0].id]
  } : null
}

output "parameter_name" {
  description = "Where the function's credentials are."
  value       = local.parameter
}

output "policy_id" {
  description = "The policy of the function's role, to depend on: a function that starts before it is in place starts without the mesh."
  value       = aws_iam_role_policy.credentials.id
}
