# SPDX-License-Identifier: MPL-2.0

# A function that services of the mesh call. It needs no layer and no change: its tags make the registrator register it, and Consul
# has a terminating gateway, or the caller's own sidecar, invoke it.

locals {
  dist     = "${path.module}/../../../../dist"
  tags     = "serverless.consul.hashicorp.com/v1alpha1/lambda"
  function = coalesce(var.function_zip_path, "${local.dist}/mesh-function_linux_amd64.zip")
}

module "registrator" {
  source = "../../modules/lambda-registrator"

  name                   = "${var.name}-registrator"
  zip_path               = coalesce(var.registrator_zip_path, "${local.dist}/consul-lambda-registrator_linux_amd64.zip")
  consul_http_addr       = var.consul_http_addr
  consul_http_token_path = var.consul_http_token_path
  consul_ca_cert_path    = var.consul_ca_cert_path
  subnet_ids             = var.subnet_ids
  security_group_ids     = var.security_group_ids

  reserved_concurrent_executions = 1
}

resource "aws_lambda_function" "called" {
  function_name    = "${var.name}-called"
  role             = aws_iam_role.called.arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  filename         = local.function
  source_code_hash = filebase64sha256(local.function)
  memory_size      = 256
  timeout          = 10

  tags = {
    "${local.tags}/enabled"             = "true"
    "${local.tags}/invocation-mode"     = var.invocation_mode
    "${local.tags}/payload-passthrough" = tostring(var.payload_passthrough)
  }
}

resource "aws_iam_role" "called" {
  name = "${var.name}-called"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect    = "Allow"
      Action    = "sts:AssumeRole"
      Principal = { Service = "lambda.amazonaws.com" }
    }]
  })
}

data "aws_partition" "current" {}

resource "aws_iam_role_policy_attachment" "called_logs" {
  role       = aws_iam_role.called.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}

# Whose AWS credentials invoke the function: those of the terminating gateway's machine or task.
resource "aws_iam_role_policy" "gateway" {
  name = "invoke-${var.name}-called"
  role = var.gateway_role_name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [{
      Effect   = "Allow"
      Action   = "lambda:InvokeFunction"
      Resource = aws_lambda_function.called.arn
    }]
  })
}

# A run may take the registrator's timeout, and so may the answer: the AWS CLI gives up after a minute by itself, and invokes again.
output "sync" {
  description = "Makes the registrator's first run now, or another full one."
  value       = "aws lambda invoke --region ${var.region} --cli-read-timeout 0 --function-name ${module.registrator.function_name} /dev/stdout"
}

output "terminating_gateway" {
  description = "For `consul config write`: makes the gateway answer for the function."
  value = jsonencode({
    Kind     = "terminating-gateway"
    Name     = var.gateway_service_name
    Services = [{ Name = aws_lambda_function.called.function_name }]
  })
}
