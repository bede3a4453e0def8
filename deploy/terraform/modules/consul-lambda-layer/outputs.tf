# SPDX-License-Identifier: MPL-2.0

output "layer_arns" {
  description = "ARN of the layer version by architecture, for `layers` of a function."
  value       = { for arch, layer in aws_lambda_layer_version.extension : arch => layer.arn }
}
