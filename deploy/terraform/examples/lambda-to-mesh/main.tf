# SPDX-License-Identifier: MPL-2.0

# A function that calls a service of the mesh: the registrator gives it a name and a certificate, the layer carries its connections.

locals {
  dist = "${path.module}/../../../../dist"
}

# One key for all documents. Who may use it is said by the roles' policies, each for the parameters that it needs.
resource "aws_kms_key" "documents" {
  description         = "Credential documents of Lambda functions in the mesh"
  enable_key_rotation = true
}

module "registrator" {
  source = "../../modules/lambda-registrator"

  name                         = "${var.name}-registrator"
  zip_path                     = coalesce(var.registrator_zip_path, "${local.dist}/consul-lambda-registrator_linux_amd64.zip")
  consul_http_addr             = var.consul_http_addr
  consul_http_token_path       = var.consul_http_token_path
  consul_ca_cert_path          = var.consul_ca_cert_path
  consul_extension_data_prefix = "/${var.name}"
  kms_key_arn                  = aws_kms_key.documents.arn
  subnet_ids                   = var.subnet_ids
  security_group_ids           = var.registrator_security_group_ids

  reserved_concurrent_executions = 1
}

module "layer" {
  source = "../../modules/consul-lambda-layer"

  zip_paths = { x86_64 = coalesce(var.extension_zip_path, "${local.dist}/consul-lambda-extension_linux_amd64.zip") }
}

module "mesh" {
  source = "../../modules/mesh-function"

  function_name     = "${var.name}-caller"
  role_name         = aws_iam_role.caller.name
  layer_arn         = module.layer.layer_arns["x86_64"]
  mesh_gateway_uris = var.mesh_gateway_uris
  data_prefix       = module.registrator.data_prefix
  kms_key_arn       = aws_kms_key.documents.arn
  upstreams         = ["${var.upstream}:8080"]

  vpc = {
    id                  = var.vpc_id
    subnet_ids          = var.subnet_ids
    mesh_gateway_cidrs  = var.mesh_gateway_cidrs
    create_ssm_endpoint = var.create_ssm_endpoint
  }
}

# The function itself knows nothing of the mesh: it calls localhost. This is examples/mesh-function.
resource "aws_lambda_function" "caller" {
  function_name    = "${var.name}-caller"
  role             = aws_iam_role.caller.arn
  runtime          = "provided.al2023"
  handler          = "bootstrap"
  filename         = coalesce(var.function_zip_path, "${local.dist}/mesh-function_linux_amd64.zip")
  source_code_hash = filebase64sha256(coalesce(var.function_zip_path, "${local.dist}/mesh-function_linux_amd64.zip"))
  memory_size      = 256
  timeout          = 10

  layers = module.mesh.layers
  tags   = module.mesh.tags

  environment {
    variables = merge(module.mesh.environment, { UPSTREAM_HTTP = "http://localhost:8080/" })
  }

  vpc_config {
    subnet_ids         = module.mesh.vpc_config.subnet_ids
    security_group_ids = module.mesh.vpc_config.security_group_ids
  }

  depends_on = [module.mesh]
}

resource "aws_iam_role" "caller" {
  name = "${var.name}-caller"

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

resource "aws_iam_role_policy_attachment" "caller_logs" {
  role       = aws_iam_role.caller.name
  policy_arn = "arn:${data.aws_partition.current.partition}:iam::aws:policy/service-role/AWSLambdaBasicExecutionRole"
}

# A run may take the registrator's timeout, and so may the answer: the AWS CLI gives up after a minute by itself, and invokes again.
output "sync" {
  description = "Makes the registrator's first run now, or another full one."
  value       = "aws lambda invoke --region ${var.region} --cli-read-timeout 0 --function-name ${module.registrator.function_name} /dev/stdout"
}

output "invoke" {
  description = "Calls the function, which calls the service."
  value       = "aws lambda invoke --region ${var.region} --function-name ${aws_lambda_function.caller.function_name} /dev/stdout"
}
