# SPDX-License-Identifier: MPL-2.0

mock_provider "aws" {
  source = "../../testdata/mocks"
}

variables {
  region                         = "us-east-1"
  consul_http_addr               = "https://consul.example.com:8501"
  mesh_gateway_uris              = ["gateway.example.com:8443"]
  mesh_gateway_cidrs             = ["10.0.0.0/16"]
  upstream                       = "web"
  vpc_id                         = "vpc-1"
  subnet_ids                     = ["subnet-1"]
  registrator_security_group_ids = ["sg-1"]
  registrator_zip_path           = "versions.tf"
  extension_zip_path             = "versions.tf"
  function_zip_path              = "versions.tf"
}

# Nothing exists yet: what AWS chooses is unknown, and must not decide how many of something there are.
run "a_first_plan" {
  command = plan

  assert {
    condition     = aws_lambda_function.caller.function_name == "lambda-to-mesh-caller"
    error_message = aws_lambda_function.caller.function_name
  }
}

run "the_function_finds_what_the_registrator_writes" {
  variables {
    name                   = "demo"
    consul_http_token_path = "/consul/token"
    consul_ca_cert_path    = "/consul/ca"
    create_ssm_endpoint    = true
  }

  assert {
    condition     = module.registrator.data_prefix == "/demo" && module.mesh.parameter_name == "/demo/default/default/demo-caller"
    error_message = "One writes to ${module.registrator.data_prefix}, the other reads ${module.mesh.parameter_name}."
  }
  assert {
    condition = aws_lambda_function.caller.environment[0].variables == tomap({
      CONSUL_MESH_GATEWAY_URI      = "gateway.example.com:8443"
      CONSUL_EXTENSION_DATA_PREFIX = "/demo"
      CONSUL_SERVICE_UPSTREAMS     = "web:8080"
      UPSTREAM_HTTP                = "http://localhost:8080/"
    })
    error_message = jsonencode(aws_lambda_function.caller.environment[0].variables)
  }
  assert {
    condition = (length(aws_lambda_function.caller.layers) == 1 && length(aws_lambda_function.caller.vpc_config[0].security_group_ids) == 1 &&
    aws_lambda_function.caller.tags == tomap({ "serverless.consul.hashicorp.com/v1alpha1/lambda/enabled" = "true" }))
    error_message = "The function lacks its layer, its network or its tag."
  }
  assert {
    condition     = startswith(output.invoke, "aws lambda invoke --region us-east-1 --function-name demo-caller")
    error_message = output.invoke
  }
  assert {
    condition     = output.sync == "aws lambda invoke --region us-east-1 --cli-read-timeout 0 --function-name demo-registrator /dev/stdout"
    error_message = output.sync
  }
}
