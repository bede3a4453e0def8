# SPDX-License-Identifier: MPL-2.0

output "function_name" {
  description = "Name of the registrator's function."
  value       = aws_lambda_function.registration.function_name
}

output "function_arn" {
  description = "ARN of the registrator's function."
  value       = aws_lambda_function.registration.arn
}

output "role_arn" {
  description = "ARN of the role it runs with: what a policy on your KMS key has to name."
  value       = aws_iam_role.registration.arn
}

output "log_group_name" {
  description = "Where it logs."
  value       = aws_cloudwatch_log_group.registration.name
}

output "failure_destination_arn" {
  description = "Where events end that could not be handled: the queue made here, or the destination given."
  value       = local.failure_destination
}

output "data_prefix" {
  description = "Where it writes credential documents, for `data_prefix` of mesh-function; empty if it writes none."
  value       = local.data_prefix
}
